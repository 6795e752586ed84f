#!/usr/bin/env bash
# Makes what the tests and the demo need besides Rust: kube-apiserver, kubectl, etcd, Helm, the Lua that Argo CD
# runs, a Python environment with MiniStack, the reference OCR, its models and a font that draws Chinese, one with the
# clients that users have, a browser, a registry, and EasyOCR, which exports models and says what it reads. On a
# bare Debian 12 it needs Go, Python 3 and the network once; afterwards it finds everything in the cache and
# ends at once.
#
#   tests/tools/setup.sh            the above; prints where the settings file is
#   tests/tools/setup.sh images     also what builds and runs container images
#   tests/tools/setup.sh deny       only cargo-deny; prints the folder that it is in
#   tests/tools/setup.sh fuzz       only cargo-fuzz; prints the folder that it is in
#   tests/tools/setup.sh mutants    only cargo-mutants; prints the folder that it is in
#   eval "$(tests/tools/setup.sh env)"   sets up, then prints the settings alone, for a shell
#
# The cache is ${XDG_CACHE_HOME:-~/.cache}/larder. Each part lies in a folder named by the hash of what it
# is made from, is built aside and renamed when whole, so an interrupted run leaves nothing half made.
# KUBEBUILDER_ASSETS, when set to a folder with kube-apiserver, etcd and kubectl, is used as it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/larder
goal=${1:-tools}
case $goal in tools | images | deny | fuzz | mutants | env) ;; *)
  sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
  exit 2
  ;;
esac

say() { printf '%s\n' "$*" >&2; }
die() {
  say "setup: $*"
  exit 1
}

# step WHAT COMMAND…: runs it, its output kept in a log, and says how long it took.
step() {
  local what=$1 log="$cache/log/${1//[^A-Za-z0-9.]/-}.log" begun=$SECONDS
  shift
  mkdir -p "$cache/log"
  printf '%s … ' "$what" >&2
  if "$@" >"$log" 2>&1; then
    say "$((SECONDS - begun)) s"
  else
    say "failed after $((SECONDS - begun)) s"
    tail -n 25 "$log" >&2
    die "$what failed; the whole output is in $log"
  fi
}

# key FILE…: a short name for this content on this machine.
key() { { uname -sm; cat "$@"; } | sha256sum | cut -c1-12; }

need() { command -v "$1" >/dev/null || die "$1 is missing: $2"; }

# The version that a go.mod pins for a module.
pinned() { sed -n "s|^[[:space:]]*\(require \)\{0,1\}$2 \(v[^ ]*\).*|\2|p" "$here/$1/go.mod" | head -n 1; }

# The `|| exit` are there because `set -e` does not reach into a function that a condition calls.
build_go() { # MODULE OUT LDFLAGS PACKAGE…: every package's program into OUT, all or none.
  local module=$1 out=$2 flags=$3 aside
  shift 3
  rm -rf "$cache"/tools/.build.*
  aside=$(mktemp -d "$cache/tools/.build.XXXXXX") || return
  for package in "$@"; do
    local program=${package##*/}
    [[ $program == v[0-9] ]] && program=etcd
    (cd "$here/$module" && GOFLAGS=-mod=readonly go build -trimpath -ldflags "-s -w $flags" \
      -o "$aside/$program" "$package") || return
  done
  chmod 755 "$aside" && rm -rf "$out" && mv -T "$aside" "$out"
}

# Every package is pinned, so pip has nothing to resolve: --no-deps also keeps out what a package of data
# asks for and its files do not need.
build_venv() { # OUT REQUIREMENTS IMPORTS. A venv holds its own path: made in place, marked when whole.
  local out=$1
  rm -rf "$out"
  python3 -m venv "$out" || return
  "$out/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps -r "$2" || return
  "$out/bin/python" -c "import $3" || return
  touch "$out/.whole"
}

# python_environment WHAT REQUIREMENTS IMPORTS: makes it if it is not there; its folder is in $made then.
python_environment() {
  need python3 "install Python 3.11 or newer"
  made=$cache/python/$(key "$2" <(python3 --version))
  [[ -e $made/.whole ]] && return
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages "the Python environment" python3-venv
  step "$1" build_venv "$made" "$2" "$3"
}

# packages WHY NAME…: installs the Debian packages that are missing, or says how.
packages() {
  local why=$1 missing=()
  shift
  for name in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$name" 2>/dev/null) == *"ok installed" ]] || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    step "Debian packages ${missing[*]}" install_packages "${missing[@]}"
  else
    die "$why needs packages that are missing. Run: sudo apt-get install -y --no-install-recommends ${missing[*]}"
  fi
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "$@" || {
    apt-get update && apt-get install -y --no-install-recommends "$@"
  }
}

# helm, and glua for the chart's health check.
chart_tools() {
  local version
  version=$(pinned helm helm.sh/helm/v4)
  helm=$cache/tools/helm-$version-$(key "$here"/helm/go.{mod,sum})
  [[ -d $helm ]] && return
  need go "install Go 1.24 or newer (https://go.dev/dl)"
  step "helm $version (about three minutes)" build_go helm "$helm" "-X helm.sh/helm/v4/internal/version.version=$version" \
    helm.sh/helm/v4/cmd/helm github.com/yuin/gopher-lua/cmd/glua
}

tools() {
  local go_hint="install Go 1.24 or newer (https://go.dev/dl), or set KUBEBUILDER_ASSETS to a folder with kube-apiserver, etcd and kubectl"
  if [[ -n ${KUBEBUILDER_ASSETS:-} ]]; then
    for program in kube-apiserver etcd kubectl; do
      [[ -x $KUBEBUILDER_ASSETS/$program ]] || die "KUBEBUILDER_ASSETS has no $program: unset it or add that program"
    done
    assets=$KUBEBUILDER_ASSETS
  else
    local kube_version etcd_version kube etcd
    kube_version=$(pinned kubernetes k8s.io/kubernetes)
    etcd_version=$(pinned etcd go.etcd.io/etcd/server/v3)
    kube=$cache/tools/kubernetes-$kube_version-$(key "$here"/kubernetes/go.{mod,sum})
    etcd=$cache/tools/etcd-$etcd_version-$(key "$here"/etcd/go.{mod,sum})
    if [[ ! -d $etcd ]]; then
      need go "$go_hint"
      step "etcd $etcd_version (about half a minute)" build_go etcd "$etcd" "" go.etcd.io/etcd/server/v3
    fi
    if [[ ! -d $kube ]]; then
      need go "$go_hint"
      step "kube-apiserver and kubectl $kube_version (about five minutes)" build_go kubernetes "$kube" \
        "-X k8s.io/component-base/version.gitVersion=$kube_version" \
        k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kubectl
    fi
    assets=$cache/tools/assets-$(key "$here"/{kubernetes,etcd}/go.{mod,sum})
    if [[ ! -d $assets ]]; then
      local aside
      aside=$(mktemp -d "$cache/tools/.assets.XXXXXX")
      ln -s "$kube/kube-apiserver" "$kube/kubectl" "$etcd/etcd" "$aside/"
      chmod 755 "$aside" && mv -T "$aside" "$assets"
    fi
  fi

  python_environment "Python environment (about a minute)" "$here/requirements.txt" \
    "ministack, rapidocr, onnxruntime, PIL, boto3, tokenizers"
  python=$made/bin/python
  python_environment "Python environment of the clients (about a minute)" "$here/requirements-clients.txt" \
    "tritonclient.http, kserve, openai, huggingface_hub, requests, onnx, playwright.sync_api"
  clients=$made/bin/python

  chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
  if [[ -z $chromium ]]; then
    packages "trying the page in a browser" chromium
    chromium=$(command -v chromium)
  fi
}

# PyTorch is Debian's: PyPI's brings gigabytes for graphics cards. So this is Debian's Python as well.
build_easyocr() { # OUT: the environment in OUT/python, the exported models and what EasyOCR reads beside it.
  local out=$1
  rm -rf "$out"
  /usr/bin/python3 -m venv --system-site-packages "$out/python" || return
  "$out/python/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps \
    -r "$here/../easyocr/requirements.txt" || return
  PYTHONDONTWRITEBYTECODE=1 "$out/python/bin/python" -W ignore "$here/../easyocr/reference.py" "$out" || return
  touch "$out/.whole"
}

easyocr() {
  easyocr=$cache/easyocr/$(key "$here"/../easyocr/{requirements.txt,reference.py} \
    "$here/../../docs/examples/easyocr_export.py" "$here/../pictures/draw.py")
  [[ -e $easyocr/.whole ]] && return
  packages "EasyOCR" python3-venv python3-torch python3-torchvision python3-scipy python3-shapely python3-pil
  step "EasyOCR, its models exported, and what it reads (about two minutes)" build_easyocr "$easyocr"
}

# Only the program: the package itself would start a registry on port 5000.
build_registry() { # OUT
  rm -rf "$1"
  mkdir -p "$1.aside" && (
    cd "$1.aside" || exit
    apt-get download docker-registry || { apt-get update && apt-get download docker-registry; } || exit
    dpkg-deb -x ./docker-registry_*.deb . && rm -f ./*.deb
  ) && mv -T "$1.aside" "$1"
}

registry() {
  local out=$cache/tools/docker-registry
  registry=$out/usr/bin/docker-registry
  [[ -x $registry ]] && return
  rm -rf "$out.aside"
  command -v apt-get >/dev/null || die "docker-registry is missing: put Debian's program at $registry"
  step "docker-registry of Debian" build_registry "$out"
}

images() {
  # crun would do as well; what matters is a runtime that works without systemd.
  packages "building and running images" podman buildah runc conmon netavark iptables
}

# cargo_tool NAME VERSION: builds a cargo subcommand where it is missing, and prints the folder it is in.
cargo_tool() {
  local out=$cache/tools/$1-$2
  [[ -d $out ]] || step "$1 $2 (about three minutes)" install_cargo_tool "$1" "$2" "$out"
  printf '%s\n' "$out/bin"
}

install_cargo_tool() { # NAME VERSION OUT. Built aside and renamed when whole.
  local aside
  aside=$(mktemp -d "$cache/tools/.cargo.XXXXXX") || return
  CARGO_TARGET_DIR=$aside/target cargo install --locked --root "$aside" "$1@$2" || return
  rm -rf "$aside/target" "$3" && chmod 755 "$aside" && mv -T "$aside" "$3"
}

mkdir -p "$cache/tools" "$cache/python" "$cache/easyocr"
# One at a time: a second run waits, then finds everything made.
exec 9>"$cache/.lock"
flock -n 9 || {
  say "another setup is at work; waiting for it"
  flock -w 1800 9 || die "the other setup did not end in 30 minutes; see $cache/log"
}
case $goal in
  deny) cargo_tool cargo-deny 0.20.2 && exit ;;
  fuzz) cargo_tool cargo-fuzz 0.13.2 && exit ;;
  mutants) cargo_tool cargo-mutants 27.1.0 && exit ;;
esac
tools
chart_tools
registry
easyocr
[[ $goal == images ]] && images
settings=$(mktemp "$cache/.env.XXXXXX")
cat >"$settings" <<END
LARDER_ASSETS=$assets
LARDER_HELM=$helm
LARDER_PYTHON=$python
LARDER_CLIENTS_PYTHON=$clients
LARDER_CHROMIUM=$chromium
LARDER_EASYOCR=$easyocr
LARDER_REGISTRY=$registry
END
chmod 644 "$settings"
mv -T "$settings" "$cache/env"
if [[ $goal == env ]]; then cat "$cache/env"; else say "ready: $cache/env"; fi
