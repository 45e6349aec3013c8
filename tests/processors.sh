#!/usr/bin/env bash
# Run the tests as other processors and thread counts would: other kernels round the last digits otherwise.
# Arguments go to pytest; names in $SETTINGS choose some: SETTINGS="avx2 baseline" tests/processors.sh tests/models
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
for setting in ${SETTINGS:-baseline avx2 unrestricted threads}; do
  case $setting in
    baseline) limits="ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" ;;
    avx2) limits="ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2" ;;
    unrestricted) limits="WMC_TEST_THREADS=1" ;;
    threads) limits="WMC_TEST_THREADS=2 OMP_NUM_THREADS=2" ;;
    *) echo "there is no setting '$setting': choose of baseline, avx2, unrestricted, threads" && exit 2 ;;
  esac
  echo "== $setting: $limits"
  # Kernels that torch compiled for one processor are found again for another, which cannot build them: a cache for each.
  cache=$(mktemp -d)
  env $limits TORCHINDUCTOR_CACHE_DIR="$cache" make --no-print-directory test PYTEST_ARGS="-q $*" || failed=1
  rm -rf "$cache"
done
exit $failed
