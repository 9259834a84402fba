//! `sconce explain`: where a call would go, room by room, and why.
//!
//! It asks the very chain and table that `serve` would use, so what it says is what would happen.

mod dial;
mod question;
mod shown_certificate;
#[cfg(test)]
mod tests;

pub(super) use question::Question;

use crate::{
    cli::terminal,
    config::{self, Plan, keys::Book},
    route::{Cluster, Table},
};
use question::{Asked, TOKEN, served};
use sconce_filters::{Account, Call, Code, Method, Refusal, call::Listed};
use std::{
    env,
    net::Ipv4Addr,
    process::ExitCode,
    rc::Rc,
    sync::Arc,
    time::{Instant, SystemTime},
};

/// The status for words that cannot be read, as clap has it.
const UNREADABLE: u8 = 2;
/// The status for a call that would be refused, or whose driver cannot be reached.
const REFUSED: u8 = 3;

/// Prints what each room says and where the call goes.
pub(super) fn run(question: &Question) -> ExitCode {
    let asked = match question.read(env::var(TOKEN).ok()) {
        Ok(asked) => asked,
        Err(what) => {
            terminal::complain(format_args!("error: {what}"));
            return ExitCode::from(UNREADABLE);
        }
    };
    let book = Book::default();
    let mut reading = config::read(&question.file.config, &book, None);
    let errors = std::mem::take(&mut reading.errors);
    let errors = errors.into_values().flat_map(|errors| errors.complaints);
    let plan = match reading.plan {
        Ok(plan) => plan,
        Err(mut complaints) => {
            complaints.extend(errors);
            terminal::print(complaints);
            return ExitCode::FAILURE;
        }
    };
    // They concern their own teams alone, which `serve` would refuse.
    errors.for_each(terminal::complain);
    book.follow(&plan.providers);
    let providers = dial::fetch(&book);
    for fault in providers.iter().filter_map(dial::Delivered::fault) {
        terminal::complain(format_args!("sconce: {fault}"));
    }
    let Explained { mut told, place } = explain(question, &asked, &plan);
    let mut is_good = place.is_ok();
    if question.dial {
        is_good &= dial::providers(&mut told, &providers);
        if let Ok(cluster) = &place {
            is_good &= dial::driver(&mut told, cluster, plan.timeouts.connect);
        }
    }
    terminal::print(told);
    if is_good { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

/// What was found out about a call.
struct Explained {
    told: Vec<String>,
    place: Result<Arc<Cluster>, Refusal>,
}

fn explain(question: &Question, asked: &Asked, plan: &Plan) -> Explained {
    let mut told = Vec::new();
    let place = follow(&mut told, question, asked, plan);
    Explained { told, place }
}

/// The way of the call, step by step, up to its cluster.
fn follow(
    told: &mut Vec<String>,
    question: &Question,
    asked: &Asked,
    plan: &Plan,
) -> Result<Arc<Cluster>, Refusal> {
    let mut call = made_up(question, asked);
    let dialled = match &*asked.authority {
        "" => "nowhere in particular",
        authority => authority,
    };
    line(told, "call", &format!("{} to {dialled}{}", call.method(), asked.origin));
    if let Err(what) = asked.check(&question.method) {
        line(told, "sconce", &format!("rejects its head: {what}"));
        return Err(Refusal::new(Code::Internal, "request", what));
    }
    if let Some(file) = &question.certificate {
        match shown_certificate::read(file, plan, call.wall()) {
            Ok((certificate, said)) => {
                line(told, "TLS", &said);
                call = call.with_certificate(certificate);
            }
            Err(what) => {
                line(told, "TLS", &format!("refuses the certificate: {what}"));
                return Err(Refusal::new(Code::Unavailable, "tls", what));
            }
        }
    }
    served(&question.method).inspect_err(|refusal| line(told, "sconce", &refuses(refusal)))?;
    for Account { room, sentence, details, verdict } in plan.rooms.chain().explain(&mut call) {
        let said = match (&verdict, sentence) {
            (Ok(()), Some(sentence)) => format!("admits: {sentence}"),
            (Ok(()), None) => "admits".to_owned(),
            (Err(refusal), _) => refuses(refusal),
        };
        line(told, room, &said);
        details.iter().for_each(|detail| line(told, "", detail));
        verdict?;
    }
    let cluster = cluster(&call, plan)?;
    let file = plan.teams.get(cluster.team()).map(|team| team.file.display().to_string());
    let (driver, file) = (cluster.driver(), file.unwrap_or_default());
    line(told, "goes to", &format!("{cluster}, driver {driver} ({file})"));
    Ok(cluster)
}

fn refuses(Refusal { code, label, message, .. }: &Refusal) -> String {
    format!("refuses: {code} ({}), {label}: {message}", code.number())
}

fn made_up(question: &Question, asked: &Asked) -> Call {
    let listed = Listed::new(asked.authority.clone());
    let all = asked.headers.iter();
    let metadata = all.fold(listed, |listed, (key, value)| listed.with(key, value.as_str()));
    #[expect(clippy::disallowed_methods, reason = "the made-up call is made now")]
    let (now, wall) = (Instant::now(), SystemTime::now());
    let peer = (Ipv4Addr::LOCALHOST, 0).into();
    Call::new(Method::of(&question.method), Rc::new(metadata), peer, now).with_wall(wall)
}

fn cluster(call: &Call, plan: &Plan) -> Result<Arc<Cluster>, Refusal> {
    let (team, environment) = (call.team()?, call.environment()?);
    let nowhere = || Refusal::new(Code::Internal, "route.missing", "no cluster is known for it");
    let table = Table::of(&plan.teams, None);
    table.cluster(team, environment).map(Arc::clone).ok_or_else(nowhere)
}

fn line(told: &mut Vec<String>, what: &str, said: &str) {
    told.push(format!("{what:<12} {said}"));
}
