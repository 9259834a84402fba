//! Limits: the windows and header list sizes that sconce grants to drivers.

use crate::proxy::budget::DOWNLOAD_BUFFER_MAX;
use crate::proxy::convert::usize_from;
use crate::wire::connection::{Connection, LocalConfig};
use crate::wire::hpack::Limits;
use crate::wire::settings::{DEFAULT_INITIAL_WINDOW_SIZE, Settings};

/// Receive window of a whole upstream connection in octets: the most that a driver may have in
/// flight to one client connection.
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Octets of a header list from a driver. The driver gets the smaller of this limit and the
/// client's, so that a response too long for the client fails as it would without sconce.
const HEADER_LIST_MAX: u32 = 65_536;

/// Fields in one header list from a driver.
const HEADER_COUNT_MAX: usize = 256;

/// SETTINGS_MAX_HEADER_LIST_SIZE towards a client's drivers, in octets.
pub(crate) fn header_list_max(remote: &Settings) -> u32 {
    remote.max_header_list_size.min(HEADER_LIST_MAX)
}

/// The receive window for an upstream connection: the client's send window and, so that the
/// connection can always be read, the buffer for responses. `detached` octets of responses without
/// an upstream wait for the same client.
pub(crate) fn connection_window(downstream: &Connection, detached: usize) -> i64 {
    let detached = i64::try_from(detached).unwrap_or(i64::MAX);
    let most = downstream.connection_send_window().saturating_add(i64::from(DOWNLOAD_BUFFER_MAX));
    most.saturating_sub(detached).min(i64::from(CONNECTION_WINDOW))
}

/// The SETTINGS and limits of a new upstream connection.
pub(super) fn local_config(downstream: &Connection, detached: usize) -> LocalConfig {
    let remote = downstream.remote_settings();
    let window = u32::try_from(connection_window(downstream, detached))
        .unwrap_or(0)
        .max(DEFAULT_INITIAL_WINDOW_SIZE);
    let settings = Settings {
        enable_push: false,
        max_concurrent_streams: 0,
        initial_window_size: remote.initial_window_size,
        max_header_list_size: header_list_max(remote),
        ..Settings::INITIAL
    };
    let headers = Limits { octets: usize_from(HEADER_LIST_MAX), count: HEADER_COUNT_MAX };
    LocalConfig { settings, window, headers }
}
