"""Real processes, really killed: what was acknowledged is there, and nothing recorded is done again.

ledger.py      what ran and what was acknowledged, written outside the database
flows.py       workflows that use every durable call
host.py        the process that is killed: an engine, and the world that answers it
herd.py        many processes that do one thing at the same moment
processes.py   starts hosts, and kills, stops and continues them
rows.py        the database by plain SQL
folders.py     a folder of files by plain JSON
promises.py    pure: ledger and rows -> which promises were broken
trials.py      an execution that is killed and resumed, against one that was left alone
plants.py      bugs that a host takes on when told to, so that the promises are seen to convict
"""
