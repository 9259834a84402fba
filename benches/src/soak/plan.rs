//! Which call a lane makes next.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::call::{Ask, Reading};
use crate::envelope::Method::{self, AddArtifacts, Config, ExecutePlan};
use crate::message::Messages;
use crate::soak::dice::Dice;

const KIB: usize = 1 << 10;
/// Patterns in requests and answers. No more of both than a stub driver keeps ready.
const ASKED: [(Method, usize); 4] =
    [(Config, 128), (Config, KIB), (ExecutePlan, 128), (AddArtifacts, 32 * KIB)];
const ANSWERED: [usize; 7] = [128, KIB, 16 * KIB, 32 * KIB, 64 * KIB, 1 << 20, 4 << 20];
/// The deadline of a call that should be answered long before it.
const DEADLINE: Duration = Duration::from_secs(4);
/// A call without a deadline must have ended after so long, whatever was done to its driver.
const PATIENCE: Duration = Duration::from_secs(12);
/// The answer to a call that is meant to miss its deadline comes so late.
const TOO_LATE: Duration = Duration::from_secs(3);
/// A call is made so many times in a row at most, since equal requests have a way of their own.
const TIMES_MAX: u64 = 4;

/// A call, and what is to be done with it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What kind it is, for people.
    pub kind: &'static str,
    /// What is asked and must be answered.
    pub ask: Ask,
    /// How many times it is made in a row.
    pub times: u64,
    /// When the caller gives it up, if the answer is not there before.
    pub cut: Option<Duration>,
    /// Whether it must miss its deadline.
    pub expires: bool,
}

impl Plan {
    /// After so long, a call that has not ended hangs.
    #[must_use]
    pub fn bound(&self) -> Duration {
        self.ask.timeout.map_or(PATIENCE, |timeout| (timeout * 2).max(DEADLINE))
    }
}

/// The messages of every size, made once.
#[derive(Debug)]
pub struct Shelf {
    requests: BTreeMap<(Method, usize), Messages>,
    answers: BTreeMap<usize, Messages>,
}

impl Default for Shelf {
    fn default() -> Self {
        let requests = |kind: (Method, usize)| (kind, Messages::requests(kind.0, kind.1, None));
        Self {
            requests: ASKED.into_iter().map(requests).collect(),
            answers: ANSWERED.into_iter().map(|size| (size, Messages::answers(size))).collect(),
        }
    }
}

impl Shelf {
    /// A call by chance.
    pub fn draw(&self, dice: &mut Dice) -> Plan {
        let (kind, mut ask) = self.body(dice);
        ask.number = Some(dice.between(0, 1 << 40));
        ask.timeout = dice.percent(40).then_some(DEADLINE);
        if dice.percent(10) {
            ask.delay = dice.millis(100, 800);
        }
        let mut plan =
            Plan { kind, ask, times: dice.between(1, TIMES_MAX), cut: None, expires: false };
        if dice.percent(10) {
            plan.cut = Some(dice.millis(0, 60));
        } else if dice.percent(7) {
            plan.expires = true;
            plan.ask.timeout = Some(dice.millis(40, 200));
            plan.ask.delay = TOO_LATE;
        }
        plan
    }

    fn body(&self, dice: &mut Dice) -> (&'static str, Ask) {
        let one_of = |dice: &mut Dice, sizes: [usize; 3]| {
            let at = usize::try_from(dice.between(0, 2)).unwrap_or_default();
            sizes.get(at).copied().unwrap_or(KIB)
        };
        match dice.between(1, 100) {
            1..=55 => {
                let (up, down) =
                    (one_of(dice, [128, 128, KIB]), one_of(dice, [128, KIB, 16 * KIB]));
                ("unary", self.ask(Config, (up, 1), (down, 1)))
            }
            56..=70 => {
                let count = dice.between(1, 64);
                ("download", self.ask(ExecutePlan, (128, 1), (64 * KIB, count)))
            }
            71..=77 => {
                let size = one_of(dice, [64 * KIB, 1 << 20, 4 << 20]);
                ("large message", self.ask(ExecutePlan, (128, 1), (size, 1)))
            }
            78..=82 => {
                let reading = Reading::Slow { step: 32 * KIB, pause: dice.millis(1, 20) };
                let count = dice.between(1, 16);
                let ask = self.ask(ExecutePlan, (128, 1), (32 * KIB, count));
                ("slow download", Ask { reading, ..ask })
            }
            _ => {
                let count = dice.between(1, 48);
                ("upload", self.ask(AddArtifacts, (32 * KIB, count), (128, 1)))
            }
        }
    }

    /// A small call that is answered after `delay`.
    #[must_use]
    pub fn probe(&self, number: u64, delay: Duration) -> Plan {
        let ask = Ask {
            number: Some(number),
            delay,
            timeout: Some(DEADLINE),
            ..self.ask(Config, (128, 1), (128, 1))
        };
        Plan { kind: "probe", ask, times: 1, cut: None, expires: false }
    }

    fn ask(&self, method: Method, up: (usize, u64), down: (usize, u64)) -> Ask {
        let (upload, answer) = (self.requests.get(&(method, up.0)), self.answers.get(&down.0));
        let made = || Messages::requests(method, up.0, None);
        Ask {
            method,
            upload: upload.cloned().unwrap_or_else(made),
            upload_count: up.1,
            answer: answer.cloned().unwrap_or_else(|| Messages::answers(down.0)),
            answer_count: down.1,
            reading: Reading::Eager,
            number: None,
            delay: Duration::ZERO,
            timeout: None,
            traced: false,
        }
    }
}
