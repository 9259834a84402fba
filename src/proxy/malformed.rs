//! Malformed: header lists that break a rule of HTTP/2, and what becomes of their calls.

use std::rc::Rc;

use sconce_filters::{Code, Ending};

use crate::grpc::{malformed, status};
use crate::proxy::driver::Driver;
use crate::proxy::exchange::AnswerEnd;
use crate::proxy::relay::Relay;
use crate::telemetry::log_limit::{self, Kind};
use crate::wire::head::Malformed;

impl Relay {
    /// A driver's answer cannot be passed on. If it says by itself how the call ended, the client
    /// hears that; else the call fails with a status that no client tries again, since the same
    /// answer would come.
    pub(super) fn reject_answer(&mut self, driver: usize, tag: usize, fault: Malformed, end: bool) {
        let Some(exchange) = self.exchanges.get(tag) else { return };
        let Some(from) = self.drivers.get_mut(driver) else { return };
        from.asked = 0;
        let Some(fields) = from.leg().map(|leg| leg.wire.fields()) else { return };
        let what = malformed::describe(&fields, fault);
        log_malformed(from, &what);
        if end && !exchange.answered && status::refuses_credential(&fields) {
            return self.fail_credential(tag);
        }
        let own = malformed::own_status(&fields, exchange.answered).filter(|_| end);
        let Some((code, own)) = own else {
            return self.fail_exchange(tag, Code::Internal, "driver.malformed", &what);
        };
        self.worker.metrics.refused("driver.malformed");
        if exchange.down.parked.is_empty() {
            self.client.wire.head(exchange.stream, own.iter(), true);
            self.finish(tag, code, Ending::Answered);
        } else {
            let end = AnswerEnd { trailers: Rc::new(own), code, how: Ending::Answered };
            self.end_behind_parked(tag, end);
        }
    }
}

fn log_malformed(driver: &Driver, what: &str) {
    let cluster = &driver.cluster;
    if log_limit::admits(Kind::DriverMalformed, &(cluster.team(), cluster.environment())) {
        tracing::warn!(%cluster, what, "driver malformed");
    }
}
