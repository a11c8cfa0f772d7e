"""Many executions on a server, while everything around them fails: python -m tests.chaos --server postgres --seed 1

flows.py       the workflows, and what each must come to
worker.py      the process that is killed and stopped
client.py      who starts, signals, answers, cancels and waits, and never gives up
storm.py       kills, stops, cuts, and crashes of the server, by a seed
servers.py     servers that keep what they acknowledged, and a folder
run.py         all of it at once; then it comes to rest, and ledger and rows are judged
"""
