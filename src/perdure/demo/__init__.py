"""The demo: a licence audit of the installed distributions, through which a worker is killed.

python -m perdure.demo [--yes] [--folder FOLDER]

audit.py     what a distribution says about its licence, and what to make of it
flow.py      the workflow and its steps: what a user of Perdure writes
ledger.py    what really ran, written outside the store
proof.py     pure: ledger and journal -> how often each step entered and was recorded
worker.py    the process that runs the workflow, and is killed
play.py      the process that starts, kills, asks and shows
"""
