//! Whether a call ended as it may.

use std::time::Duration;

use crate::call::Answer;
use crate::fault::Fault;
use crate::soak::ledger::{Ending, Ledger, Moment};
use crate::soak::plan::Plan;

const DEADLINE_EXCEEDED: u32 = 4;
const UNAVAILABLE: u32 = 14;
/// Timers of sconce's runtime and of ours count in milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// What became of a call.
#[derive(Debug)]
pub enum Outcome {
    /// An answer, or a fault.
    Ended(Result<Answer, Fault>),
    /// It was given up as planned.
    Cut,
    /// It had not ended when it had to.
    Hung,
}

/// What is thought of that.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended as it may.
    Right(Ending),
    /// It was given up as planned.
    Cut,
    /// It did not end as it may: the claim that it breaks, and why.
    Wrong(&'static str, String),
}

/// Judges a call of the cluster `name` that began at `since` and took so long.
#[must_use]
pub fn judge(
    plan: &Plan,
    outcome: &Outcome,
    name: &str,
    (ledger, since): (&Ledger, Moment),
    took: Duration,
) -> Verdict {
    let wrong = |why: String| Verdict::Wrong("endings", why);
    let ending = match outcome {
        Outcome::Cut => return Verdict::Cut,
        Outcome::Hung => return Verdict::Wrong("hangs", format!("no end after {took:?}")),
        Outcome::Ended(Ok(_)) if plan.expires => {
            return wrong("answered long after its deadline".to_owned());
        }
        Outcome::Ended(Ok(answer)) => {
            let driver = answer.driver.as_ref().and_then(|name| name.to_str().ok());
            Ending::Driver(driver.unwrap_or("a stranger").to_owned())
        }
        Outcome::Ended(Err(Fault::Refused { code, message })) => {
            let told_well = message.contains(name) && !message.contains("127.0.0.1");
            if *code == UNAVAILABLE && !told_well {
                return wrong(format!("names its cluster badly: {message}"));
            }
            if *code == DEADLINE_EXCEEDED {
                match plan.ask.timeout {
                    Some(timeout) if took + TICK >= timeout => {}
                    other => return wrong(format!("status=4 after {took:?} of {other:?}")),
                }
                if plan.expires {
                    return Verdict::Right(Ending::Status(DEADLINE_EXCEEDED));
                }
            }
            Ending::Status(*code)
        }
        Outcome::Ended(Err(fault)) => return wrong(fault.to_string()),
    };
    if ledger.permits(since, &ending) {
        return Verdict::Right(ending);
    }
    match outcome {
        Outcome::Ended(Err(fault)) => wrong(format!("{ending} after {took:?}: {fault}")),
        Outcome::Ended(Ok(_)) | Outcome::Cut | Outcome::Hung => wrong(ending.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::plan::Shelf;

    fn verdict(plan: &Plan, outcome: &Outcome, allowed: &[Ending], took: Duration) -> Verdict {
        let mut ledger = Ledger::default();
        allowed.iter().for_each(|ending| ledger.allow(ending.clone()));
        let since = ledger.moment();
        judge(plan, outcome, "ads/prod", (&ledger, since), took)
    }

    fn probe() -> Plan {
        Shelf::default().probe(1, Duration::ZERO)
    }

    fn refused(code: u32, message: &str) -> Outcome {
        Outcome::Ended(Err(Fault::Refused { code, message: message.to_owned() }))
    }

    fn answered(driver: &'static str) -> Outcome {
        let driver = Some(http::HeaderValue::from_static(driver));
        Outcome::Ended(Ok(Answer { octets: 1, driver }))
    }

    fn is_wrong(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Wrong(..))
    }

    #[test]
    fn an_answer_of_another_driver_is_wrong() {
        let mine = [Ending::Driver("mine".to_owned())];
        let soon = Duration::from_millis(1);
        assert!(!is_wrong(&verdict(&probe(), &answered("mine"), &mine, soon)));
        assert!(is_wrong(&verdict(&probe(), &answered("yours"), &mine, soon)));
    }

    #[test]
    fn an_error_is_right_only_while_it_is_allowed() {
        let told = refused(UNAVAILABLE, "the driver of cluster ads/prod failed");
        let soon = Duration::from_millis(1);
        assert!(!is_wrong(&verdict(&probe(), &told, &[Ending::Status(UNAVAILABLE)], soon)));
        assert!(is_wrong(&verdict(&probe(), &told, &[], soon)));
    }

    #[test]
    fn an_address_in_a_message_is_wrong() {
        let told = refused(UNAVAILABLE, "ads/prod at 127.0.0.1:1 failed");
        let soon = Duration::from_millis(1);
        assert!(is_wrong(&verdict(&probe(), &told, &[Ending::Status(UNAVAILABLE)], soon)));
    }

    #[test]
    fn a_deadline_is_not_exceeded_before_it_has_passed() {
        let plan = Plan { expires: true, ..probe() };
        let told = refused(DEADLINE_EXCEEDED, "");
        let timeout = plan.ask.timeout.unwrap();
        assert!(!is_wrong(&verdict(&plan, &told, &[], timeout)));
        assert!(is_wrong(&verdict(&plan, &told, &[], timeout / 2)));
    }

    #[test]
    fn a_cut_connection_is_wrong_whatever_is_allowed() {
        let broken = Outcome::Ended(Err(Fault::Http2("x", h2::Reason::REFUSED_STREAM.into())));
        let all = [Ending::Status(UNAVAILABLE)];
        assert!(is_wrong(&verdict(&probe(), &broken, &all, Duration::ZERO)));
    }
}
