"""PostgreSQL: the pool, the migrations and the SQL of each table family.

asyncpg is known here and nowhere else; it lives on one asyncio thread behind `pool`.
"""
