# Commands of this repository. CI runs .ci/run, which uses the same scripts.

# List the commands.
default:
    @just --list

# Format, lints, docs, licences.
check:
    scripts/check

# All tests, including PySpark, or some groups: `just test rust`.
test *runners:
    scripts/test {{runners}}

# Kill drivers and edit files under load: 1000 rounds, or the given number.
soak *arguments:
    tests/soak/run {{arguments}}

# PySpark's own tests, directly and through sconce; takes 20 minutes or more.
pyspark-suite *arguments:
    tests/spark/pyspark-suite {{arguments}}

# Mutation tests of all modules, or of some: `just mutants team redact`.
mutants *modules:
    scripts/mutants {{modules}}

# A short run of each fuzz target.
fuzz:
    fuzz/run

# Compare sconce with other proxies, on one core.
bench *arguments:
    benches/run {{arguments}}

# Demo: a PySpark query for each of two teams; `just demo --once` exits after it.
demo *arguments:
    scripts/demo {{arguments}}

# Report old words, import cycles, visible fields and sizes, of this or another checkout.
readability *arguments:
    scripts/readability {{arguments}}
