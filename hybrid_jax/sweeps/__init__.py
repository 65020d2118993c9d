"""Run many configs: searches, and fixed lists of parts, by any number of workers.

outcome = run_config(config, "runs/a")            # one run, to its end
outcomes = work_through({"a": config}, "study")   # beside other workers
"""
