"""Many devices, and the processes of many hosts.

mesh           arrays on devices, and programs for them: the kinds `jit` and `pmap`
rendezvous     processes that meet, or hear which one is missing
distributed    processes that find each other, agree, and fail together
"""
