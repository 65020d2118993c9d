"""Run many configs, as a search or as a fixed list, with any number of workers.

outcome = run_config(config, "runs/a")            # train one run to its end
outcomes = work_through({"a": config}, "study")   # share a list with other workers
"""
