"""Sample traffic: the back office of a fresh `make run` looks as after a month of real traffic.

`people`, `story` and `money` generate the events: pure functions, with the same result for the same end. `past` runs
the services at simulated times, `replay` and `spending` execute the story with them, and `office` performs the staff's
actions. `subscribers` adds accounts with subscriptions. It runs once, as a separate process
(`python -m app.demo.traffic`), before the first worker starts: see `run.py`.
"""
