"""One run on many devices, and in the processes of many hosts.

mesh     arrays on devices, and programs for them: the kinds `jit` and `pmap`
hosts    processes that find each other, agree, and do the same
"""
