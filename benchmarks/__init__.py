"""Speed and size of the whole product, measured on private stacks: `make bench` or `python -m benchmarks`.

It prints figures and judges none of them; docs/benchmarks.md holds those of the last run.
"""
