#!/usr/bin/env bash
# npm test: sets up, checks the sources, then tests the binding and treesnoop itself on this kernel.
#
#   tools/test.sh [NAME...]    everything, or only test/NAME.test.ts
#
# Owns the order and the exit code. The suite comes last, since what it prints last is what people
# and continuous integration read. Does not own what is installed or built (tools/setup.sh).
set -u
cd "$(dirname "$(readlink -f "$0")")/.." || exit 3
tools/setup.sh --test || exit
if [ "$(id -u)" != 0 ]; then
  echo "treesnoop: the tests load BPF programs, which takes root: continuing through sudo" >&2
  exec sudo -- env "PATH=$PATH" "$PWD/tools/test.sh" "$@"
fi

scratch=$(mktemp -d) || exit 3
finish() {
  rm -rf "$scratch"
  # What root built belongs to whoever owns the clone.
  [ "$(stat -c %u .)" = 0 ] || chown -R -h --reference=. build dist native/libbpf-ts
}
trap finish EXIT

# A check is one line when it passes, and all it said when it does not.
failed=()
check() {
  local name=$1 status=0 begun=$SECONDS
  shift
  timeout --foreground -k 10 600 "$@" >"$scratch/$name.log" 2>&1 </dev/null || status=$?
  if [ $status = 0 ]; then
    echo "ok      $name ($((SECONDS - begun)) s)"
  else
    cat "$scratch/$name.log"
    echo "FAILED  $name (exit code $status)"
    touch "$scratch/$name.failed"
  fi
}

formatted() {
  local log status=0
  log=$(find bpf native \( -name build -o -name 'build-*' -o -name node_modules -o -name out \) -prune \
    -o \( -name '*.[ch]' -o -name '*.cc' \) -print0 |
    xargs -0 node_modules/.bin/clang-format --dry-run -Werror 2>&1) || status=$?
  [ $status != 0 ] || return 0
  echo "Not as .clang-format says (npm run format corrects it), and in how many places:"
  sed -n 's/:[0-9:]* error: code should be clang-formatted.*//p' <<<"$log" | sort | uniq -c
  return $status
}

if [ $# = 0 ]; then
  # Beside the checks of sources: it runs no BPF, so it disturbs no measurement.
  check libbpf-ts-tsan npm run test:tsan -w native/libbpf-ts &
  check tsc node_modules/.bin/tsc -b
  check eslint node_modules/.bin/eslint --max-warnings 0 .
  # The npm package has binaries for x86-64 only, and another version would format otherwise.
  if [ "$(uname -m)" = x86_64 ]; then
    check clang-format bash -c "$(declare -f formatted) && formatted"
  else
    echo "absent  clang-format (no binary for $(uname -m))"
  fi
  wait
  # The binding's own tests, all of them; without the sanitizer: npm test -w native/libbpf-ts.
  check libbpf-ts-asan npm run test:asan -w native/libbpf-ts
  for name in "$scratch"/*.failed; do
    [ ! -e "$name" ] || failed+=("$(basename "$name" .failed)")
  done
fi

files=()
for name in "$@"; do files+=("${name%.test.ts}"); done
[ $# != 0 ] || mapfile -t files < <(find test -name '*.test.ts' -printf '%f\n' | sed 's/\.test\.ts$//' | sort)

# Tests that neither measure time nor look at the whole machine say so, and run two at a time; the others
# measure the same two processors.
beside=() alone=()
for name in "${files[@]}"; do
  if grep -qs 'Runs beside others\.$' "test/$name.test.ts"; then beside+=("build/test/$name.test.js"); else alone+=("build/test/$name.test.js"); fi
done

reporter=tap
[ ! -t 1 ] || reporter=spec
suite() {
  local at_once=$1
  shift
  [ $# != 0 ] || return 0
  timeout --foreground -k 10 1500 node --test --test-concurrency="$at_once" \
    --test-reporter=$reporter --test-reporter-destination=stdout \
    --test-reporter=tap --test-reporter-destination="$scratch/tap-$at_once" "$@" ||
    failed+=("the suite (exit code $?)")
}
suite 2 "${beside[@]}"
suite 1 "${alone[@]}"
# A test may skip only what this kernel cannot do, and that is for a person to see.
! grep -E '^# (skipped|todo) [1-9]' "$scratch"/tap-* >&2 || failed+=('skipped tests')

[ ${#failed[@]} = 0 ] && exit
{
  printf 'npm test: FAILED:'
  printf ' %s;' "${failed[@]}"
  echo
} >&2
exit 1
