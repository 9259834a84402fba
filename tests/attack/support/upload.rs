//! How the scripted client sends a body of its own making, within the windows.

use super::client::{Client, SOON};
use super::frame;
use super::reply::Reply;

impl Client {
    /// Sends these octets in frames of at most so many; false if the windows stay shut.
    pub fn speak(&mut self, id: u32, mut octets: &[u8], most: usize, end: bool) -> bool {
        while !octets.is_empty() {
            let Some(open) = self.open_window(id) else { return false };
            let now = octets.len().min(open).min(most).min(16_384);
            self.spend(id, now);
            self.send(&frame::data(id, end && now == octets.len(), &octets[..now]));
            octets = &octets[now..];
        }
        true
    }

    /// Waits for a window, and says how far it is open.
    pub fn open_window(&mut self, id: u32) -> Option<usize> {
        let over = |c: &Self| c.closed || c.streams.get(&id).is_some_and(Reply::is_over);
        let opened = self.pump(|c| c.window_of(id) > 0 || over(c), SOON) && !over(self);
        opened.then(|| usize::try_from(self.window_of(id)).unwrap())
    }

    /// What may be sent on a stream now.
    pub fn window_of(&self, id: u32) -> i64 {
        let initial = i64::from(self.peer.get(&4).copied().unwrap_or(65_535));
        self.budget.min(initial + self.budgets.get(&id).unwrap_or(&0))
    }

    /// Octets that may be sent on a stream beyond its first window, or less than that.
    pub fn budgets_of(&self, id: u32) -> i64 {
        self.budgets.get(&id).copied().unwrap_or(0)
    }

    /// Octets that sconce may send on a stream, whatever the connection's window is.
    pub fn stream_open(&self, id: u32) -> i64 {
        self.stream_allowance + self.streams.get(&id).map_or(0, |reply| reply.allowance)
    }

    /// Octets that sconce may send on the connection.
    pub fn connection_open(&self) -> i64 {
        self.allowance
    }

    /// Whether every SETTINGS frame of ours was acknowledged.
    pub fn is_settled(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Notes octets of DATA that are sent by hand.
    pub fn spend(&mut self, id: u32, octets: usize) {
        let spent = i64::try_from(octets).unwrap();
        self.budget -= spent;
        *self.budgets.entry(id).or_default() -= spent;
    }
}
