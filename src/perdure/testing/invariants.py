from perdure.testing.history import History
def violations(history: History) -> list[str]:
    return list(history.faults)
