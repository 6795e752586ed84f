"""Runs the tests of the planner against every mutant of it that cargo-mutants lists: `make mutants`.

usage: run.py FOLDER [--only TEXT] [--again] [--skip PROGRAM]

In FOLDER are the copy of the sources, what is built of it, and results.json, which a second run goes on with.
cargo-mutants builds each mutant by itself, which for these tests takes half a minute a mutant; here all are built at once.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import sources

CORE = "controller/core/"
# So many times as long as without a mutant, and no less than so many seconds, and the tests hang.
LONGER, LEAST = 5, 20
# So many tests, those that noticed most in the same file, go first.
LIKELY = 12
# The programs whose tests are meant to notice, and what they are run with.
TESTS = ["--lib", "--test", "properties", "--test", "world_*"]
SETTINGS = {"SCHEDULES": "60", "RUST_BACKTRACE": "0", "RUST_TEST_THREADS": "1", "PROPTEST_CASES": "64"}
UNVIABLE = "does not build"
SWITCH = '''//! Which mutant is on.

use std::sync::LazyLock;

static ON: LazyLock<u32> =
    LazyLock::new(|| std::env::var("LARDER_MUTANT").ok().and_then(|it| it.parse().ok()).unwrap_or(0));

/// Whether this one is.
pub fn on(number: u32) -> bool {
    *ON == number
}
'''


def cargo(tree, target, *arguments):
    """What cargo says, message by message; and whether it went well."""
    command = [os.environ.get("CARGO", "cargo"), *arguments, "--locked", "--message-format=json"]
    run = subprocess.run(
        command, cwd=tree, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, stdout=subprocess.PIPE, text=True
    )
    return [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")], run.returncode == 0


def copy(root, tree):
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, cwd=root, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0"):
        if name and (root / name).is_file() and not name.startswith(CORE + "src/"):
            write(tree / name, (root / name).read_bytes())


def write(path, content):
    """What is the same keeps its age, so that it is not built again."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def place(root, tree, mutants, left):
    """Writes the planner with these mutants in it. The lines of each, by file; and why others have no place."""
    files, reasons, lines = {}, {}, {}
    for path in sorted((root / CORE / "src").rglob("*.rs")):
        files[str(path.relative_to(root))] = sources.File(path.read_bytes())
    for number, mutant in enumerate(mutants, 1):
        if number in left:
            continue
        try:
            files[mutant["file"]].place(number, mutant)
        except sources.NotPlaced as why:
            reasons[number] = str(why)
    for name, file in files.items():
        text, lines[name] = file.mutated()
        if name == CORE + "src/lib.rs":
            text += "\n#[allow(missing_docs)]\npub mod mutants;\n"
        write(tree / name, text.encode())
    write(tree / CORE / "src/mutants.rs", SWITCH.encode())
    for path in (tree / CORE / "src").rglob("*.rs"):
        if str(path.relative_to(tree)) not in {*files, CORE + "src/mutants.rs"}:
            path.unlink()
    return lines, reasons


def unviable(messages, lines):
    """The mutants that the compiler's errors are about, and the errors about none."""
    found, others = set(), []
    for message in messages:
        told = message.get("message") or {}
        if message["reason"] != "compiler-message" or told.get("level") != "error" or not told["spans"]:
            continue
        spans = [it for it in told["spans"] if it["is_primary"]] + told["spans"]
        for span in spans:
            at = lines.get(span["file_name"], {})
            here = {n for n, (first, last) in at.items() if first <= span["line_start"] and span["line_end"] <= last}
            if here:
                found |= here
                break
            # A match with too few arms: the next one that is left out.
            after = [(first, n) for n, (first, _) in at.items() if first > span["line_start"]]
            if (told.get("code") or {}).get("code") == "E0004" and after:
                found.add(min(after)[1])
                break
        else:
            others.append(told["rendered"])
    return found, others


def build(root, folder, mutants):
    tree, target = folder / "tree", folder / "target"
    copy(root, tree)
    # What did not build the last time is not tried again.
    kept = folder / "unviable.json"
    names = set(json.loads(kept.read_text())) if kept.exists() else set()
    left = {n: UNVIABLE for n, it in enumerate(mutants, 1) if it["name"] in names}
    while True:
        lines, reasons = place(root, tree, mutants, left)
        messages, is_well = cargo(tree, target, "check", "-p", "larder-core")
        if is_well:
            break
        found, others = unviable(messages, lines)
        if not found:
            sys.exit("".join(others) or "cargo check failed")
        left |= dict.fromkeys(found, UNVIABLE)
        kept.write_text(json.dumps([mutants[n - 1]["name"] for n in left]))
        print(f"{len(left)} mutants do not build", flush=True)
    fast = [it for name in ("larder-core", "larder", "larder-tests") for it in ("--config", f"profile.dev.package.{name}.opt-level=1")]
    messages, is_well = cargo(tree, target, "test", "--workspace", "--no-run", *TESTS, *fast)
    if not is_well:
        sys.exit("".join((it.get("message") or {}).get("rendered") or "" for it in messages if it["reason"] == "compiler-message"))
    programs = {}
    for it in messages:
        if it["reason"] == "compiler-artifact" and it.get("executable") and it["profile"]["test"]:
            name = it["target"]["name"]
            if name in ("larder_core", "properties") or name.startswith("world_"):
                programs[name] = it["executable"]
    return tree, programs, left | reasons


def run(tree, program, number, longest, names=()):
    """How the tests of a program, or those named, end: which fails, "time" when they do not end, nothing when all pass."""
    settings = {**os.environ, **SETTINGS, "LARDER_MUTANT": str(number)}
    child = subprocess.Popen(
        [program, *(["--exact", *names] if names else [])], cwd=tree / "tests", env=settings, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    is_late = threading.Event()

    def stop():
        is_late.set()
        child.kill()

    watch = threading.Timer(longest, stop)
    watch.start()
    try:
        for line in child.stdout:
            if line.startswith("test ") and line.rstrip().endswith("FAILED"):
                child.kill()
                child.wait()
                return line.split()[1]
        child.wait()
    finally:
        watch.cancel()
    if is_late.is_set():
        return "time"
    return "" if child.returncode == 0 else "its end"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="mutants whose names hold this")
    parser.add_argument("--again", action="store_true", help="those that survived, once more")
    parser.add_argument("--skip", action="append", default=[], help="a test program to leave out, such as the slowest")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    given = parser.parse_args()
    root, folder = pathlib.Path.cwd(), given.folder.absolute()
    listed = [os.environ.get("CARGO", "cargo"), "mutants", "-p", "larder-core", "--list", "--json"]
    listed = subprocess.run(listed, cwd=root, stdout=subprocess.PIPE, check=True, text=True)
    mutants = json.loads(listed.stdout)
    tree, programs, left = build(root, folder, mutants)
    programs = {name: program for name, program in programs.items() if name not in given.skip}
    took = {}
    for name, program in programs.items():
        begun = time.monotonic()
        failed = run(tree, program, 0, 600)
        if failed:
            sys.exit(f"{name}::{failed} must pass where nothing is changed")
        took[name] = time.monotonic() - begun
    order = sorted(programs, key=took.get)
    print(", ".join(f"{name} {took[name]:.1f} s" for name in order), flush=True)
    kept = folder / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    lock = threading.Lock()

    def likely(file):
        """The tests that noticed most mutants of a file, by program."""
        by = [by.split("::", 1) for name, by in list(results.items()) if name.startswith(file + ":") and by]
        tests = collections.Counter((program, test) for program, test in by if test not in ("time", "its end") and program in order)
        programs = {}
        for (program, test), _ in tests.most_common(LIKELY):
            programs.setdefault(program, []).append(test)
        return programs

    def judge(number, name):
        for program, tests in likely(name.split(":")[0]).items():
            failed = run(tree, programs[program], number, max(LEAST, LONGER * took[program]), tests)
            if failed:
                return f"{program}::{failed}"
        for program in order:
            failed = run(tree, programs[program], number, max(LEAST, LONGER * took[program]))
            if failed:
                return f"{program}::{failed}"
        return ""

    def one(number):
        name = mutants[number - 1]["name"]
        by = judge(number, name)
        with lock:
            results[name] = by
            kept.write_text(json.dumps(results, indent=1))
            if not by:
                print(f"SURVIVED {name}", flush=True)

    is_due = lambda name: given.only in name and (name not in results or (given.again and not results[name]))
    due = [n for n, it in enumerate(mutants, 1) if n not in left and is_due(it["name"])]
    print(f"{len(mutants)} mutants, {len(left)} do not build or have no place, {len(due)} to run", flush=True)
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(one, number) for number in due]):
            done.result()
    names = {it["name"] for n, it in enumerate(mutants, 1) if n not in left}
    ended = {name: by for name, by in results.items() if name in names}
    survived = sorted(name for name, by in ended.items() if not by)
    why = collections.Counter(left.values())
    print("\n".join(survived))
    print(f"{len(mutants)} mutants: {', '.join(f'{count}: {it}' for it, count in why.items())}; "
          f"{len(ended) - len(survived)} caught, {len(survived)} survived")


if __name__ == "__main__":
    main()
