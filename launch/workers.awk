# Combine the states of a run on all workers (worker.sh state) into one line: bare,
# absent, alive, some, ended or unreachable; the worst exit code; the newest step.

function rank(code) {
  return code == "" ? 0 : code == "0" ? 1 : code == "2" || code == "3" ? 3 : 2
}

$1 == "hybrid_jax" {
  seen[$2] = 1
  if ($NF ~ /^[0-9]+$/ && $NF > step) step = $NF + 0
  if ($2 == "ended" && rank($3) > rank(code)) code = $3
}

END {
  if (seen["alive"]) how = seen["ended"] || seen["bare"] ? "some" : "alive"
  else how = seen["bare"] ? "bare" : seen["ended"] ? "ended" : "unreachable"
  # Starting again does nothing on workers where the run is alive.
  if (seen["absent"] && !seen["bare"]) how = "absent"
  print how, code == "" ? "-" : code, step
}

BEGIN { step = -1 }
