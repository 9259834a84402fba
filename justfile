# Every habit of this house by its short name. CI does the same through .ci/run.

# What there is.
default:
    @just --list

# Format, lints, docs, licences.
check:
    scripts/check

# Every test, real PySpark included; or some: `just test rust`.
test *runners:
    scripts/test {{runners}}

# Drivers die and files change under load: 1000 rounds, or as many as are said.
soak *arguments:
    tests/soak/run {{arguments}}

# PySpark's own tests, directly and through sconce; twenty minutes or more.
pyspark-suite *arguments:
    tests/spark/pyspark-suite {{arguments}}

# Whether the tests of a module notice changes of its code; or of some: `just mutants team redact`.
mutants *modules:
    scripts/mutants {{modules}}

# A short run of each fuzz target.
fuzz:
    fuzz/run

# sconce beside its rivals, on one core.
bench *arguments:
    benches/run {{arguments}}

# A real PySpark query for each of two teams, from nothing; `just demo --once` ends after it.
demo *arguments:
    scripts/demo {{arguments}}
