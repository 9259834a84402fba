//! Where the load and whoever measures the proxy meet: on both sides of the measured part.
//!
//! The load stands still at a gate, so that a reading of clocks and memory taken there belongs
//! to whole calls only.

use std::io::{BufRead, Write};
use std::time::Duration;

use crate::fault::Fault;

/// Time for acknowledgements and window updates to settle before a gate.
const SETTLING: Duration = Duration::from_millis(50);

/// Whether somebody measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Nobody does: go on.
    Open,
    /// Somebody reads `begin` and `end` from standard output, and answers each with a line.
    Kept,
}

impl Gate {
    /// Says where the run is and waits for the answer.
    ///
    /// # Errors
    /// When whoever measures has gone.
    pub async fn pass(self, word: &str) -> Result<(), Fault> {
        tokio::time::sleep(SETTLING).await;
        if self == Self::Open {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        writeln!(out, "{word}").and_then(|()| out.flush()).map_err(|e| Fault::Io("gate", e))?;
        let mut answer = String::new();
        let got = std::io::stdin().lock().read_line(&mut answer);
        match got.map_err(|e| Fault::Io("gate", e))? {
            0 => Err(Fault::Io("gate", std::io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}
