"""Promises that hold across everything: all stores, all columns, all processes.

programs.py   starts programs of this folder as processes, and stops and kills them
crew.py       the worker of limited queues, and what the database says of its moves
speaker.py    a worker whose step emits, and the follower that listens in another process
"""
