//! A well-behaved client on a connection of its own that calls all the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::client::{Client, Manners};

const PAUSE: Duration = Duration::from_millis(25);
const PATIENCE: Duration = Duration::from_secs(3);

pub struct Canary {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<(Instant, String)>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Canary {
    /// Sings at once if it is to sing at all.
    pub fn start(at: SocketAddr, sings: bool, proof: Option<String>) -> Self {
        let mut canary = Self { stop: Arc::default(), failures: Arc::default(), thread: None };
        let (stop, failures) = (canary.stop.clone(), canary.failures.clone());
        canary.thread = sings.then(|| {
            std::thread::spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let sung = std::panic::catch_unwind(|| sing(at, &stop, proof.as_deref()));
                    if let Err(what) = sung.unwrap_or_else(|_| Err("broken protocol".into())) {
                        let mut held = failures.lock().unwrap();
                        if held.len() < 10_000 {
                            held.push((Instant::now(), what));
                        }
                        drop(held);
                        std::thread::sleep(PAUSE);
                    }
                }
            })
        });
        canary
    }

    pub fn failures_since(&self, since: Instant) -> Vec<String> {
        let held = self.failures.lock().unwrap();
        held.iter().filter(|(at, _)| *at >= since).map(|(_, what)| what.clone()).take(5).collect()
    }
}

fn sing(at: SocketAddr, stop: &AtomicBool, proof: Option<&str>) -> Result<(), String> {
    let mut client = Client::open_with(at, "canary", Manners::default());
    let request = client.request().team("calm");
    let request = proof.into_iter().fold(request, |it, proof| it.with("authorization", proof));
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let id = client.call(&request);
        let reply = client.finish_within(id, PATIENCE);
        client.streams.clear();
        if reply.status() != Some(0) {
            return Err(format!(
                "{reply:?} after {:?}, goaway {:?}",
                began.elapsed(),
                client.goaway
            ));
        }
        if client.goaway.is_some() {
            return Err("a GOAWAY".to_string());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
