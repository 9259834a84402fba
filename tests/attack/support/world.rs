//! The world of a case: what is attacked, its drivers, and the canary that must not suffer.
//!
//! With `ATTACK_TARGET` and `ATTACK_BACKEND_LISTEN` the cases run against another proxy, one at a
//! time, each with a driver of its own on the address that proxy knows.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::bridge::{self, How};
use super::canary::Canary;
use super::client::{Client, Manners};
use super::driver::{self, Driver};
use super::sconce::{Config, Process, Sconce};

pub const CLUSTER: &str = "ads/prod";

/// What a world is made of.
#[derive(Clone, Default)]
pub struct Spec {
    pub config: Config,
    pub driver: driver::Spec,
}

pub struct World {
    pub target: SocketAddr,
    pub sconce: Option<Mutex<Sconce>>,
    /// The driver of team `ads`; those of `web` and `calm` are there to be called.
    pub driver: Mutex<Driver>,
    pub web: Driver,
    pub calm: Driver,
    canary: Canary,
    names: AtomicUsize,
}

/// Another proxy to attack, and where it expects its backend.
pub fn external() -> Option<(SocketAddr, SocketAddr)> {
    let read = |name: &str| std::env::var(name).ok()?.parse().ok();
    Some((read("ATTACK_TARGET")?, read("ATTACK_BACKEND_LISTEN")?))
}

impl World {
    pub fn new(spec: &Spec) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let keeps = spec.driver.keeps;
        let named = |name| driver::Spec { name, keeps, ..driver::Spec::default() };
        let outside = external();
        let at = outside.map_or(any, |(_, backend)| backend);
        let driver = Driver::start(at, spec.driver.clone());
        let web = Driver::start(any, named("web"));
        let calm = Driver::start(any, named("calm"));
        let teams = [("ads", driver.address), ("web", web.address), ("calm", calm.address)];
        let mut config = spec.config.clone();
        let is_bridged = std::env::var("ATTACK_TLS").is_ok() && config.tls.is_none();
        if is_bridged {
            config.tls = Some(Vec::new());
        }
        let sconce = outside.is_none().then(|| Sconce::start(&config, &teams));
        let own = sconce.as_ref().map_or(any, |sconce| match is_bridged {
            true => bridge::start(sconce.address, sconce.paper.client(&How::default())),
            false => sconce.address,
        });
        let target = outside.map_or(own, |(target, _)| target);
        let plain = matches!(spec.driver.greeting, driver::Greeting::Plain);
        // It speaks no TLS itself.
        let is_clear = spec.config.tls.is_none();
        let canary = Canary::start(target, is_clear && (sconce.is_some() || plain), config.proof);
        Self {
            target,
            sconce: sconce.map(Mutex::new),
            driver: Mutex::new(driver),
            web,
            calm,
            canary,
            names: AtomicUsize::new(0),
        }
    }

    pub fn is_sconce(&self) -> bool {
        self.sconce.is_some()
    }

    /// A mark for one client's calls, by which its drivers' logs are found.
    pub fn mark(&self) -> String {
        format!("case-{}", self.names.fetch_add(1, Ordering::SeqCst))
    }

    pub fn client(&self) -> Client {
        self.client_with(Manners::default())
    }

    pub fn client_with(&self, manners: Manners) -> Client {
        Client::open_with(self.target, &self.mark(), manners)
    }

    /// A TCP connection that has said nothing.
    pub fn stranger(&self) -> Client {
        Client::connect(self.target, &self.mark(), Manners::default())
    }

    pub fn asked(&self, case: &str) -> usize {
        self.driver.lock().unwrap().was_asked(case)
    }

    /// Waits until the driver's last stream of this case satisfies the condition.
    pub fn driver_sees(
        &self,
        case: &str,
        patience: Duration,
        until: impl Fn(&driver::Served) -> bool,
    ) -> driver::Served {
        let log = self.driver.lock().unwrap().log.clone();
        log.wait(case, patience, until)
    }

    pub fn process(&self) -> Option<Process> {
        self.sconce.as_ref().map(|sconce| sconce.lock().unwrap().process())
    }

    /// What holds after every case: nothing died, nobody else suffered.
    pub fn assert_sound(&self, since: Instant) {
        if let Some(sconce) = &self.sconce {
            sconce.lock().unwrap().assert_sound();
        }
        let failures = self.canary.failures_since(since);
        assert!(failures.is_empty(), "the canary suffered: {failures:?}");
    }
}
