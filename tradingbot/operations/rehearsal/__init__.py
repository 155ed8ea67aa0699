"""The rehearsal: the real services on a real database against the simulator's engine, in stepped time.

A seed fixes the market, the faults and the crashes. Only here do the bot and the simulator meet in one
process, behind the port `execution.contracts.ExchangeGateway`.
"""
