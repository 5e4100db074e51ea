"""What deploy/ holds, with the real programs: run by `make test-deploy`.

Beside the tests stand two commands for runs that are too large for a suite: `tests.deploy.rolling`
and `tests.deploy.storm`.
"""
