//! Runs the cases: light ones side by side, heavy ones alone, and says so in cargo's words.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::sconce::Config;
use super::world::{self, Spec, World};

/// Which world a case runs in.
#[derive(Clone)]
pub enum Stage {
    /// Defaults, shared by many cases.
    Plain,
    /// Short timeouts, shared by many cases.
    Quick,
    /// A world of its own.
    Own(Box<Spec>),
}

pub struct Case {
    name: String,
    stage: Stage,
    alone: bool,
    run: Box<dyn Fn(&World) + Send + Sync>,
}

/// The cases of all suites.
#[derive(Default)]
pub struct Cases {
    suite: &'static str,
    list: Vec<Case>,
}

impl Cases {
    /// Names of what follows begin with this.
    pub fn suite(&mut self, name: &'static str) {
        self.suite = name;
    }

    pub fn add(&mut self, name: impl Into<String>, run: impl Fn(&World) + Send + Sync + 'static) {
        self.push(name.into(), Stage::Plain, false, Box::new(run));
    }

    pub fn quick(&mut self, name: impl Into<String>, run: impl Fn(&World) + Send + Sync + 'static) {
        self.push(name.into(), Stage::Quick, false, Box::new(run));
    }

    /// In a world of its own, beside others.
    pub fn own(
        &mut self,
        name: impl Into<String>,
        spec: Spec,
        run: impl Fn(&World) + Send + Sync + 'static,
    ) {
        self.push(name.into(), Stage::Own(Box::new(spec)), false, Box::new(run));
    }

    /// In a world of its own, with the machine to itself: for what is measured.
    pub fn alone(
        &mut self,
        name: impl Into<String>,
        spec: Spec,
        run: impl Fn(&World) + Send + Sync + 'static,
    ) {
        self.push(name.into(), Stage::Own(Box::new(spec)), true, Box::new(run));
    }

    fn push(
        &mut self,
        name: String,
        stage: Stage,
        alone: bool,
        run: Box<dyn Fn(&World) + Send + Sync>,
    ) {
        let name = format!("{}::{}", self.suite, name.replace(' ', "_"));
        assert!(self.list.iter().all(|case| case.name != name), "two cases are called {name}");
        self.list.push(Case { name, stage, alone, run });
    }
}

/// Timeouts that a test can wait for.
pub fn quick() -> Config {
    Config {
        timeouts: vec![
            ("handshake", "600ms"),
            ("settings_ack", "700ms"),
            ("body_progress", "800ms"),
            ("window_closed", "900ms"),
            ("idle", "1200ms"),
            ("keepalive", "600ms"),
            ("keepalive_ack", "600ms"),
            ("connect", "500ms"),
            ("driver_keepalive", "700ms"),
            ("driver_keepalive_ack", "500ms"),
        ],
        ..Config::default()
    }
}

thread_local! {
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A figure worth keeping beside the verdicts.
pub fn note(what: String) {
    NOTES.lock().unwrap().push(what);
}

/// What the command line asks for, in libtest's words.
struct Wish {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    jobs: usize,
}

impl Wish {
    fn read() -> Self {
        let jobs = if world::external().is_some() { 1 } else { 8 };
        let mut wish = Self { filters: vec![], skips: vec![], exact: false, list: false, jobs };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--exact" => wish.exact = true,
                "--list" => wish.list = true,
                "--skip" => wish.skips.extend(words.next()),
                "--test-threads" => {
                    wish.jobs = words.next().and_then(|n| n.parse().ok()).unwrap_or(jobs);
                }
                "--format" | "--color" | "--logfile" | "-Z" => drop(words.next()),
                other if other.starts_with('-') => {
                    if let Some(count) = other.strip_prefix("--test-threads=") {
                        wish.jobs = count.parse().unwrap_or(jobs);
                    }
                }
                filter => wish.filters.push(filter.to_string()),
            }
        }
        wish
    }

    fn takes(&self, name: &str) -> bool {
        let hit = |word: &String| if self.exact { name == word } else { name.contains(word) };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skips.iter().any(hit)
    }
}

type Shared = Mutex<Option<Result<Arc<World>, String>>>;

/// The shared worlds, and what has been found.
struct Run {
    plain: Shared,
    quick: Shared,
    failures: Mutex<Vec<(String, String)>>,
    times: Mutex<Vec<(Duration, String)>>,
}

/// Runs all; the code that the process should exit with.
pub fn run(cases: Cases) -> i32 {
    let wish = Wish::read();
    let total = cases.list.len();
    let chosen: Vec<Case> = cases.list.into_iter().filter(|case| wish.takes(&case.name)).collect();
    if wish.list {
        chosen.iter().for_each(|case| println!("{}: test", case.name));
        return 0;
    }
    std::panic::set_hook(Box::new(|info| {
        MESSAGE.with(|slot| *slot.borrow_mut() = Some(info.to_string()));
    }));
    let began = Instant::now();
    let count = chosen.len();
    println!("\nrunning {count} tests");
    let run = Run {
        plain: Mutex::default(),
        quick: Mutex::default(),
        failures: Mutex::default(),
        times: Mutex::default(),
    };
    let (heavy, light): (Vec<Case>, Vec<Case>) = chosen.into_iter().partition(|case| case.alone);
    let queue = Mutex::new(VecDeque::from(light));
    std::thread::scope(|scope| {
        for _ in 0..wish.jobs {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().pop_front();
                    let Some(case) = next else { return };
                    run.play(&case);
                }
            });
        }
    });
    heavy.iter().for_each(|case| run.play(case));
    run.report(count, total - count, began.elapsed())
}

impl Run {
    fn play(&self, case: &Case) {
        let began = Instant::now();
        let verdict = caught(|| self.stage_and_run(case)).and_then(|outcome| outcome);
        self.times.lock().unwrap().push((began.elapsed(), case.name.clone()));
        let word = if verdict.is_ok() { "ok" } else { "FAILED" };
        println!("test {} ... {word}", case.name);
        if let Err(message) = verdict {
            self.failures.lock().unwrap().push((case.name.clone(), message));
        }
    }

    fn stage_and_run(&self, case: &Case) -> Result<(), String> {
        let outside = world::external().is_some();
        let world = match &case.stage {
            Stage::Own(spec) => {
                if outside {
                    *self.plain.lock().unwrap() = None;
                }
                Arc::new(World::new(spec))
            }
            Stage::Plain | Stage::Quick if outside => shared(&self.plain, &Spec::default())?,
            Stage::Plain => shared(&self.plain, &Spec::default())?,
            Stage::Quick => shared(&self.quick, &Spec { config: quick(), ..Spec::default() })?,
        };
        let began = Instant::now();
        (case.run)(&world);
        world.assert_sound(began);
        let driver = world.driver.lock().unwrap();
        let faults: Vec<String> = driver.log.faults.lock().unwrap().drain(..).collect();
        assert!(faults.is_empty(), "the driver was spoken to against the RFC: {faults:?}");
        Ok(())
    }

    fn report(self, count: usize, filtered: usize, took: Duration) -> i32 {
        let failures = self.failures.into_inner().unwrap();
        if let Some(Ok(world)) = self.plain.into_inner().unwrap() {
            let live = world.driver.lock().unwrap().log.live.load(Ordering::SeqCst);
            println!("\nleft alive at the driver: {live} streams");
        }
        if std::env::var("ATTACK_TIMES").is_ok() {
            let mut times = self.times.into_inner().unwrap();
            times.sort();
            times.iter().rev().take(25).for_each(|(took, name)| println!("time: {took:?} {name}"));
        }
        for line in NOTES.lock().unwrap().iter() {
            println!("measured: {line}");
        }
        if !failures.is_empty() {
            println!("\nfailures:\n");
            for (name, message) in &failures {
                println!("---- {name} ----\n{message}\n");
            }
            println!("\nfailures:");
            failures.iter().for_each(|(name, _)| println!("    {name}"));
        }
        let word = if failures.is_empty() { "ok" } else { "FAILED" };
        println!(
            "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; {filtered} \
             filtered out; finished in {:.2}s\n",
            count - failures.len(),
            failures.len(),
            took.as_secs_f64()
        );
        if failures.is_empty() { 0 } else { 101 }
    }
}

/// The world that many cases share; if it cannot be made, each of them says why, at once.
fn shared(slot: &Shared, spec: &Spec) -> Result<Arc<World>, String> {
    let mut held = slot.lock().unwrap();
    held.get_or_insert_with(|| caught(|| Arc::new(World::new(spec)))).clone()
}

/// Runs, and turns a panic into its message.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    MESSAGE.with(|slot| slot.borrow_mut().take());
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        MESSAGE.with(|slot| slot.borrow_mut().take()).unwrap_or_else(|| "a panic".to_string())
    })
}
