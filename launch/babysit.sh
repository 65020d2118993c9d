# shellcheck shell=bash
# shellcheck disable=SC2154 # tpu.sh sets the variables
# The command babysit of tpu.sh, which reads this file: machines that are lost are
# replaced, and runs that crashed are started again.

begun='' saved_before=000000000. newest_before=none fruitless=0 halves=0

babysit() {
  [[ -n $bucket ]] ||
    die "babysit needs --bucket=BUCKET: on a machine that is preempted, all that was" \
      "trained is lost with its disk"
  if [[ -n $dry_run ]]; then
    dry_babysit
    return
  fi
  while :; do
    look_at_machine
    case $(meaning "$state") in
      ready) tend ;;
      lost) renew ;;
      failed) fail "$name is $state: see $(hint status), then $(hint delete)" ;;
    esac
    sleep "$poll"
  done
}

dry_babysit() {
  look_at_machine
  make
  setup
  start
  look_at_run
}

make() {
  if [[ -n $queued ]]; then request; else create; fi
}

# Replace a machine that is lost.
renew() {
  [[ $left == GONE ]] || delete || { count_failure "$name cannot be deleted" && return; }
  if make 2>"$scratch/errors"; then
    return
  fi
  cat "$scratch/errors" >&2
  # If no machine is free, only waiting helps.
  if grep -qiE 'capacity|RESOURCE_EXHAUSTED|stockout' "$scratch/errors"; then
    say "no machine is free: trying again"
  else
    count_failure "$name cannot be created"
  fi
}

# Start or watch the run on a machine that is ready.
tend() {
  look_at_run
  progress
  case $how in
    bare) { setup && start && begun=yes; } || count_failure "setup did not succeed" ;;
    absent) { start && begun=yes; } || count_failure "the run cannot be started" ;;
    alive) halves=0 && { [[ -n $begun ]] || adopt; } ;;
    some) reunite ;;
    ended) judge ;;
  esac
}

# Watch a run that was alive before this script began, if it is the one that is asked for.
adopt() {
  local status=0
  on_worker 0 "$(refuse)" agree "$bucket" "${arguments[@]}" || status=$?
  case $status in
    0) begun=yes ;;
    2) exit 2 ;; # and it has said why
    *) count_failure "the run that is alive cannot be compared" ;;
  esac
}

# Note a checkpoint or a result that is new, also one of a trial or of a study.
progress() {
  [[ $saved > $saved_before ]] || return 0
  saved_before=$saved fruitless=0
  if [[ $newest != none && $newest != "$newest_before" ]]; then
    say "$newest is saved"
  else
    say "results so far: $results"
  fi
  newest_before=$newest
}

# Stop the workers that wait in vain for one that has ended. They may be saving, so this
# does not happen at once.
reunite() {
  halves=$((halves + 1))
  if ((halves > 3)); then
    on_worker all "$(refuse)" stop || true
  fi
}

# React to the exit code of a run that has ended. A run that ended before this script began
# is started again, since its command may be a new one.
judge() {
  case ${begun:-before}-$code in
    before-*) { start && begun=yes; } || count_failure "the run cannot be started" ;;
    yes-0)
      say "$run is complete; $name stays, and costs, until you run $(hint delete)"
      exit 0
      ;;
    yes-[23])
      show_end || true
      exit "$code"
      ;;
    *)
      count_failure "$run ended with exit code $code"
      start || true
      ;;
  esac
}

# Print what went wrong, and give up after too many failures.
count_failure() {
  fruitless=$((fruitless + 1))
  say "$1"
  if ((fruitless > attempts)); then
    show_end || true
    fail "$1 ($fruitless failures without a new checkpoint or result in between): given up"
  fi
}

show_end() {
  on "$worker" "tail -n 50 hybrid_jax/runs/$(quoted "$run")/log"
}
