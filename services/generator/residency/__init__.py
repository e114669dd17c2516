"""Which models and adapters are worth their memory: policies over arrivals, and the budget that all of them share."""
