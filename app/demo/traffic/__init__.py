"""What `make run` shows on a fresh database: a back office as after a month of real traffic.

`people` and `story` make up who did what when: pure, and the same for the same end. `past` lets the services work at
times that have passed, and `tell` has them do what the story says; `office` is what the staff did meanwhile. It runs
once, as a process of its own (`python -m app.demo.traffic`), before the first worker starts: see `run.py`.
"""
