# Combine the states of a run on all workers (worker.sh state) into one line: bare,
# absent, alive, some, ended or unreachable; the worst exit code; a text that grows, as
# texts are compared, with all that is saved; the number of results; the newest checkpoint.

function rank(code) {
  return code == "" ? 0 : code == "0" ? 1 : code == "2" || code == "3" ? 3 : 2
}

function note_saved(count, time, path,  mark) {
  gsub(/[^0-9]/, "", time)
  mark = sprintf("%09d", count) "." time
  if (mark > saved) { saved = mark; results = count; newest = path }
}

$1 == "hybrid_jax" {
  seen[$2] = 1
  # results=COUNT at=TIME newest=PATH, where the path may have blanks
  if (match($0, / results=[0-9]+ at=[^ ]+ newest=/)) {
    split(substr($0, RSTART, RLENGTH), part, /[ =]/)
    note_saved(part[3], part[5], substr($0, RSTART + RLENGTH))
  }
  if ($2 == "ended" && rank($3) > rank(code)) code = $3
}

END {
  if (seen["alive"]) how = seen["ended"] || seen["bare"] ? "some" : "alive"
  else how = seen["bare"] ? "bare" : seen["ended"] ? "ended" : "unreachable"
  # Starting again does nothing on workers where the run is alive.
  if (seen["absent"] && !seen["bare"]) how = "absent"
  print how, code == "" ? "-" : code, saved, results, newest
}

BEGIN { saved = sprintf("%09d", 0) "."; results = 0; newest = "none" }
