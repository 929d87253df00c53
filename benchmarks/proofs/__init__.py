"""What `prove.py` runs: each module one side of the question whether a machine works.

right    numbers against golden files, other kernels, other batch mates, a resumed run
fast     shares of what the device can do, measured first
sized    peak memory against what the plan and the compiler said
peers    the same work by PyTorch and transformers, where they are installed
"""
