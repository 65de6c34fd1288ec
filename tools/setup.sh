#!/usr/bin/env bash
# Makes a clone ready to run, and with --test ready to test: packages, node_modules, builds.
#
# Owns what is installed and built, and when it is out of date. Does not own how the native
# binding is built (native/libbpf-ts) nor what is tested (tools/test.sh).
#
# Called by run.sh on every start, so the first thing it does is to find out, in a few milliseconds,
# that there is nothing to do. Says nothing then; stdout is never written, it belongs to the target.
set -u
cd "$(dirname "$(readlink -f "$0")")/.." || exit 3
testing=
case "${1-}" in
'') ;;
--test) testing=1 ;;
*)
  echo "usage: tools/setup.sh [--test]" >&2
  exit 2
  ;;
esac

# ---- Is there anything to do? --------------------------------------------------------------------

bpf=build/treesnoop.bpf.o
lock=node_modules/.package-lock.json # npm writes it last
binding_inputs=(native/libbpf-ts/{package.json,CMakeLists.txt,src})
inputs=(package-lock.json tsconfig.json tsconfig.base.json src bpf native/launcher tools/setup.sh
  "${binding_inputs[@]}" native/libbpf-ts/{tsconfig.json,lib})
outputs=($lock $bpf build/launcher build/syscalls.txt dist/main.js native/libbpf-ts/dist/index.js)
stamp=build/.stamp
if [ $testing ]; then
  stamp=build/.stamp-test
  inputs+=(test bench)
  outputs+=(build/test build/workloads)
fi

# Its name is the binding's own business.
has_addon() { compgen -G 'native/libbpf-ts/build/Release/*.node' >/dev/null; }

# Where and for what machine it was built: a build does not survive being copied elsewhere.
place="$HOSTTYPE $PWD"

# Does $1 lack something that is newer in $2...? Folders count, so that a removed file does as well.
stale() {
  local output=$1
  shift
  [ ! -e "$output" ] || [ -n "$(find "$@" -newer "$output" -print -quit 2>/dev/null)" ]
}

up_to_date() {
  local built output
  { read -r built <$stamp; } 2>/dev/null && [ "$built" = "$place" ] || return 1
  for output in "${outputs[@]}"; do
    [ -e "$output" ] || return 1
  done
  has_addon && ! stale $stamp "${inputs[@]}"
}

up_to_date && exit 0

# ---- One at a time -------------------------------------------------------------------------------

say() { echo "treesnoop: $*" >&2; }
die() {
  say "$@"
  exit 3
}

exec </dev/null >&2 # what the target is to read is not for apt to read
logs=build/log
mkdir -p $logs 2>/dev/null && [ -w build ] && [ -w . ] || die "cannot write to $PWD/build
  Run: sudo chown -R \"$(id -un)\" \"$PWD\""
exec 9>build/.lock || die "cannot open $PWD/build/.lock"
flock -n 9 || {
  say "waiting for another set-up to finish"
  flock 9
}
up_to_date && exit 0
# The time of this file, not of the outputs, dates the build: what is edited meanwhile is newer.
started=build/.started
: >$started

# ---- Packages ------------------------------------------------------------------------------------

declare -a missing

# need TEST APT DNF: TEST is a command to be found, or a shell condition. Names of a package that
# differ between releases are separated by |.
need() {
  case "$1" in
  *' '*) eval "$1" >/dev/null 2>&1 && return ;;
  *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return ;;
  esac
  missing+=("$2 $3")
}

has_library() { /sbin/ldconfig -p | grep -q "$1"; }

find_missing() {
  missing=()
  need clang clang clang
  need "${CC:-cc}" gcc gcc
  need "${CXX:-c++}" g++ gcc-c++
  need make make make
  need cmake cmake cmake
  need pkg-config pkg-config pkgconf-pkg-config
  need '[ -e /usr/include/stdio.h ]' libc6-dev glibc-devel
  need '[ -e /usr/include/linux/bpf.h ]' linux-libc-dev kernel-headers
  need 'pkg-config --exists libelf' libelf-dev elfutils-libelf-devel
  need 'pkg-config --exists zlib' zlib1g-dev zlib-devel
  need 'pkg-config --exists libzstd' libzstd-dev libzstd-devel
  need 'pkg-config --exists "libbpf >= 1.1"' libbpf-dev libbpf-devel
  need '[ -e "$(pkg-config --variable=libdir libbpf)/libbpf.a" ]' libbpf-dev libbpf-static
  [ $testing ] || return
  need strace strace strace
  need git git git
  need gzip gzip gzip
  need zstd zstd zstd
  need python3 python3 python3
  need curl curl curl
  need sudo sudo sudo
  need '/usr/bin/python3 -c "import pandas"' python3-pandas python3-pandas
  need setpriv util-linux util-linux
  need top procps procps-ng
  need ip iproute2 iproute
  need tc iproute2 iproute-tc
  need nft nftables nftables
  need ethtool ethtool ethtool
  need ping iputils-ping iputils
  need nc netcat-openbsd netcat
  need iperf3 iperf3 iperf3
  need tshark tshark wireshark-cli
  need nginx nginx-light nginx
  need nft nftables nftables
  need dig bind9-dnsutils bind-utils
  need dnsmasq dnsmasq-base dnsmasq
  need redis-server redis-server 'redis|valkey-compat-redis'
  need musl-gcc musl-tools musl-gcc
  need 'has_library libjemalloc.so.2' libjemalloc2 jemalloc
  need 'has_library libtcmalloc_minimal.so.4' 'libtcmalloc-minimal4|libtcmalloc-minimal4t64' gperftools-libs
  need 'has_library libmimalloc.so' 'libmimalloc2.0|libmimalloc3' mimalloc
  # gcc brings the sanitizers on Debian; on Fedora they are packages of their own
  need '[ -e "$(cc -print-file-name=libasan.so)" ]' gcc libasan
  need '[ -e "$(cc -print-file-name=libtsan.so)" ]' gcc libtsan
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi
}

# Of a|b|c the first that this release has.
choose() {
  local known=$1 names name
  shift
  for names in "$@"; do
    case "$names" in
    *'|'*)
      for name in ${names//|/ }; do $known "$name" >/dev/null 2>&1 && break; done
      echo "$name"
      ;;
    *) echo "$names" ;;
    esac
  done | sort -u
}

install_missing() {
  local manager column packages install known
  if command -v apt-get >/dev/null; then
    manager=apt-get column=1 known='apt-cache show'
    # No service is to start: these are what a Debian package asks before it starts one.
    install='env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1
      apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends'
  elif command -v dnf >/dev/null; then
    manager=dnf column=2 known='dnf -q info' install='dnf -q -y install'
  else
    die "neither apt-get nor dnf here; install what Debian calls: \
$(choose false $(printf '%s\n' "${missing[@]}" | cut -d' ' -f1) | tr '\n' ' ')"
  fi
  packages=$(choose "$known" $(printf '%s\n' "${missing[@]}" | cut -d' ' -f$column))
  packages=${packages//$'\n'/ }
  [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
    die "these packages are missing, and there is no sudo to install them with
  Run as root: $manager install $packages"
  say "installing $packages ($manager)"
  if as_root $install $packages >$logs/packages.log 2>&1; then return; fi
  # A fresh machine has no package lists yet, an old one has lists of files long gone.
  if [ $manager = apt-get ] && as_root apt-get -q update >>$logs/packages.log 2>&1 &&
    as_root $install $packages >>$logs/packages.log 2>&1; then return; fi
  tail -n 8 $logs/packages.log
  die "$manager could not install $packages"
}

find_missing
if [ ${#missing[@]} -gt 0 ]; then
  install_missing
  find_missing
  libbpf=$(pkg-config --modversion libbpf 2>/dev/null)
  [ ${#missing[@]} -eq 0 ] || pkg-config --exists 'libbpf >= 1.1' ||
    die "libbpf ${libbpf:-(none)} is too old: 1.1 or newer is needed (Debian 12, Ubuntu 24.04, Fedora 39)"
  [ ${#missing[@]} -eq 0 ] ||
    die "still missing after the installation: $(printf '%s\n' "${missing[@]}" | cut -d' ' -f1 | sort -u | tr '\n' ' ')"
fi

# ---- node_modules --------------------------------------------------------------------------------

# The output of a step is read only when it fails: then around its first error, since what follows
# (and what a build tool says last) is mostly consequence.
step() {
  local name=$1 log=$logs/$1.log status first
  shift
  "$@" >$log 2>&1 && return
  status=$?
  first=$(grep -nEm1 '(error|ERR!|FAILED)[: ]|[Ee]rror:' $log | cut -d: -f1)
  if [ "$first" ]; then tail -n +$((first > 8 ? first - 8 : 1)) $log | head -n 30; else tail -n 20 $log; fi
  say "set-up failed at \"$name\" (exit code $status; all of its output: build/log/$name.log)"
  return $status
}

command -v npm >/dev/null || die "npm is missing; it comes with Node.js (https://nodejs.org), or as a package called npm"
[ -e $lock ] && has_addon || say "setting up, once; this takes about a minute"
if [ ! -e $lock ] || [ package-lock.json -nt $lock ]; then
  # The compiler is a development dependency, whatever NODE_ENV says. No package needs its scripts.
  step npm npm ci --include=dev --ignore-scripts --no-audit --no-fund || exit 3
fi

# ---- Builds --------------------------------------------------------------------------------------

if [ "$(cat build/.place 2>/dev/null)" != "$place" ]; then
  # cmake refuses a build folder that was moved
  rm -rf native/libbpf-ts/build build/launcher $bpf build/workloads
  echo "$place" >build/.place
fi

build_binding() {
  npm run --silent build:native -w native/libbpf-ts
}

build_launcher() {
  "${CC:-cc}" -std=c11 -O2 -Wall -Wextra -Werror -o build/.launcher native/launcher/launcher.c &&
    touch -r $started build/.launcher && mv build/.launcher build/launcher
}

# All programs are one translation unit: they share maps and the tree. Nothing lists them by hand.
build_bpf() {
  local arch multiarch
  case "$(uname -m)" in
  x86_64) arch=x86 ;;
  aarch64) arch=arm64 ;;
  ppc64*) arch=powerpc ;;
  s390x) arch=s390 ;;
  riscv64) arch=riscv ;;
  *) arch=$(uname -m) ;;
  esac
  # Debian keeps asm/ in a folder that clang does not look into for the bpf target
  multiarch=$("${CC:-cc}" -print-multiarch 2>/dev/null)
  printf '#include "%s"\n' bpf/*/*.bpf.c |
    clang -g -O2 -mcpu=v3 -target bpf -D__TARGET_ARCH_$arch -Wall -Werror -I. -Ibpf/include \
      $(pkg-config --cflags-only-I libbpf) ${multiarch:+-I/usr/include/$multiarch} \
      -x c -c - -o build/.bpf.o || return
  # Without DWARF, which nobody reads, it is a tenth of the size; BTF stays.
  ! command -v llvm-strip >/dev/null || llvm-strip -g build/.bpf.o || return
  touch -r $started build/.bpf.o && mv build/.bpf.o $bpf
}

# Numbers and names of the system calls, from the C library's headers: "number name" a line.
build_syscalls() {
  echo '#include <asm/unistd.h>' | ${CC:-cc} -E -dM - |
    sed -nE 's/^#define __NR_([a-z0-9_]+) ([0-9]+)$/\2 \1/p' | sort -n >build/syscalls.txt.new &&
    [ -s build/syscalls.txt.new ] && mv build/syscalls.txt.new build/syscalls.txt
}

# One workload. Its first lines may say `// cc: musl-gcc` and `// flags: -pthread -static`, or both on one.
build_workload() {
  local source=$1 output=$2 said compiler flags
  said=$(head -n 4 "$source")
  compiler=$(sed -nE 's|^// *(.* )?cc: *([^ ]+).*|\2|p' <<<"$said")
  flags=$(sed -nE 's|^// *(cc: *[^ ]+ +)?flags: *||p' <<<"$said" | sed -E 's|(// *)?cc:.*||')
  ${compiler:-${CC:-cc}} -std=gnu11 -O2 -g -Wall -Wextra -o "$output.new" "$source" $flags &&
    touch -r $started "$output.new" && mv "$output.new" "$output"
}

build_workloads() {
  local source output headers failed=0
  mkdir -p build/workloads
  for output in build/workloads/*; do
    [ -e "test/workloads/$(basename "$output").c" ] || rm -f "$output"
  done
  headers=$(find test/workloads -name '*.h' 2>/dev/null)
  for source in test/workloads/*.c; do
    [ -e "$source" ] || continue
    output=build/workloads/$(basename "$source" .c)
    stale "$output" "$source" $headers tools/setup.sh || continue
    build_workload "$source" "$output" || failed=1
  done
  return $failed
}

# tsc -b believes its own notes: it leaves the output of a source that was removed (and modules are found
# by looking into dist/), and does not miss an output that was.
tidy() {
  local output=$1 sources=$2 name
  while read -r name; do
    name=${name#"$output"/}
    [ -e "$sources/${name%.js}.ts" ] || rm -f "$output/${name%.js}".{js,js.map,d.ts,d.ts.map}
  done < <(find "$output" -name '*.js' 2>/dev/null)
  while read -r name; do
    name=${name#"$sources"/}
    [ -e "$output/${name%.ts}.js" ] || rm -f "$output/.tsbuildinfo"
  done < <(find "$sources" -name '*.ts' ! -name '*.d.ts' 2>/dev/null)
}

build_typescript() {
  tidy dist src
  tidy native/libbpf-ts/dist native/libbpf-ts/lib
  if [ ! $testing ]; then
    node_modules/.bin/tsc -b native/libbpf-ts src
    return
  fi
  tidy build/test test
  tidy build/bench bench
  # So that ../src/… in a test means the same to tsc and, from build/test/, to node.
  ln -sfn ../dist build/src
  node_modules/.bin/tsc -b
}

# The binding takes longest, so it does not wait. One failure does not keep the rest from being built.
failed=
binding=
if stale build/.binding "${binding_inputs[@]}" || ! has_addon; then
  step libbpf-ts build_binding &
  binding=$!
fi
if stale build/launcher native/launcher tools/setup.sh; then step launcher build_launcher || failed=1; fi
if stale build/syscalls.txt tools/setup.sh; then step syscalls build_syscalls || failed=1; fi
if stale $bpf bpf tools/setup.sh; then step bpf build_bpf || failed=1; fi
[ ! $testing ] || step workloads build_workloads || failed=1
step typescript build_typescript || failed=1
if [ "$binding" ]; then
  if wait "$binding"; then touch -r $started build/.binding; else failed=1; fi
fi
if [ ! $failed ]; then
  echo "$place" >build/.stamp.new
  touch -r $started build/.stamp.new
  [ ! $testing ] || cp -p build/.stamp.new build/.stamp-test
  mv build/.stamp.new build/.stamp
fi
# `sudo ./run.sh` in one's own clone is not to leave folders there that one cannot write to.
if [ "$(id -u)" = 0 ] && [ "$(stat -c %u .)" != 0 ]; then
  chown -R -h --reference=. build dist node_modules native/libbpf-ts
fi
[ ! $failed ] || exit 3
