"""What the scripted users say and do. Plain data; `play` carries it out.

A step may name a `key`, by which later steps mean its message (to reply, react, edit, delete).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USERS: Final = {"carla": "Carla Mendes", "dario": "Dario Kühn", "emi": "Emi Tanaka"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that one user does."""

    user: str
    say: str = ""
    to: str = ""
    """The message that is replied to, reacted to, edited or deleted."""
    key: str = ""
    react: str = ""
    edit: str = ""
    delete: bool = False
    link: str = ""


STEPS: Final = (
    Step(user="carla", say="Good morning! Is the picnic on Saturday still happening?", key="ask"),
    Step(user="dario", react="👍", to="ask"),
    Step(user="dario", say="It is. The forecast says sun until five."),
    Step(user="emi", say="Then I bring the big blanket and somthing to drink", key="drink"),
    Step(user="emi", edit="Then I bring the big blanket and something to drink", to="drink"),
    Step(user="carla", react="❤️", to="drink"),
    Step(user="carla", say="Perfect. Who has a cool box?", key="box"),
    Step(user="dario", say="I have two, one of them even closes", to="box", key="two"),
    Step(user="carla", react="😂", to="two"),
    Step(user="emi", react="😂", to="two"),
    Step(user="emi", say="How do we get there, train or bikes?", key="way"),
    Step(user="carla", say="Bikes! It is flat the whole way.", to="way"),
    Step(user="dario", say="Bikes are fine, but mine needs a new tyre first.", key="tyre"),
    Step(user="emi", say="I can lend you mine", key="lend"),
    Step(user="emi", delete=True, to="lend"),
    Step(user="emi", say="My brother's bike is free, he is away until Sunday.", to="tyre"),
    Step(user="dario", react="🎉", to="tyre"),
    Step(
        user="carla",
        say="Here is the route, half an hour at an easy pace.",
        link="https://example.org/routes/river-meadow.gpx",
        key="route",
    ),
    Step(user="dario", react="👍", to="route"),
    Step(user="emi", react="👍", to="route"),
    Step(user="dario", say="Ten o'clock at the old bridge?", key="when"),
    Step(user="emi", react="👍", to="when"),
    Step(user="carla", say="Ten it is. See you all there!", to="when", key="end"),
    Step(user="dario", react="🎉", to="end"),
)
