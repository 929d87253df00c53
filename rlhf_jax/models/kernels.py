"""Attention kernels of the hardware, behind one switch: `TrunkConfig.attention`."""


def kernel_attention(sight, query, key, value, window):
    return None
