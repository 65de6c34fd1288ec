#!/bin/sh
# Finds node, lets tools/setup.sh see whether anything is to be set up, becomes root, starts treesnoop.
#
# Owns nothing else: options, targets and errors are dist/main.js's. The target is to get the environment
# this was started with, hence the prefix: assigning to a variable of the user's would change it.
ts_here=$0
[ ! -L "$ts_here" ] || ts_here=$(readlink -f "$ts_here")
case $ts_here in */*) ts_here=${ts_here%/*} ;; *) ts_here=. ;; esac

ts_found=
for ts_name in node nodejs; do
  ts_node=$(command -v $ts_name) && ts_version=$("$ts_node" --version 2>/dev/null) || continue
  ts_major=${ts_version#v}
  [ "${ts_major%%.*}" -lt 20 ] 2>/dev/null || break
  ts_found=" (found $ts_version)"
  ts_node=
done
if [ -z "$ts_node" ]; then
  echo "treesnoop: Node.js 20 or newer is needed$ts_found
  Install it from https://nodejs.org, or with: sudo apt-get install nodejs npm" >&2
  exit 3
fi

"$ts_here/tools/setup.sh" </dev/null || exit

# The modules, help and the version need no privileges. Asked for before the command begins, that is.
ts_root=needed
[ $# -gt 0 ] && [ "$(id -u)" != 0 ] || ts_root=
ts_value=
for ts_word; do
  if [ "$ts_value" ]; then
    ts_value=
    continue
  fi
  case $ts_word in
    modules | --help | -h | --version | -V) ts_root= ;;
    -[cidoup] | --config | --interval | --duration | --output-dir | --user | --pid) ts_value=next ;;
    --) break ;;
    -*) ;;
    *) break ;;
  esac
done

# What node changes in itself and the target is to have as it was: open files, ignored signals (nohup).
ts_files=$(ulimit -Sn)
while read -r ts_name ts_signals && [ "$ts_name" != SigIgn: ]; do :; done </proc/$$/status

if [ -z "$ts_root" ]; then
  grep -qzs '^PWD=' /proc/$$/environ || unset PWD # which sh adds
  exec "$ts_node" --max-semi-space-size=2 --optimize-for-size "$ts_here/dist/main.js" --inherited "$ts_files,$ts_signals" "$@"
fi

if ! command -v sudo >/dev/null; then
  echo "treesnoop: this needs root, and there is no sudo
  Run it as root: su -c '$0 ...'" >&2
  exit 3
fi
# First the password, so that no copy of the environment is left behind when it is not given.
sudo -n true 2>/dev/null || sudo -v || exit 3
# sudo clears the environment: main.js reads the user's from this file, which only they can, and removes it.
ts_file=$(mktemp) && cat /proc/$$/environ >"$ts_file" || exit 3
# The real path, because what PATH names may be a wrapper that needs that environment.
ts_node=$("$ts_node" -p process.execPath) || exit 3
exec sudo -- "$ts_node" --max-semi-space-size=2 --optimize-for-size "$ts_here/dist/main.js" --inherited "$ts_files,$ts_signals" \
  --user-environment "$ts_file" "$@"
