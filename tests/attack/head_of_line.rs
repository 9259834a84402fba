//! Head-of-line blocking: a stream that is not read or written never stops other streams.

use std::time::Duration;

use crate::support::client::{Client, Manners, SOON};
use crate::support::frame;
use crate::support::runner::{Cases, note};
use crate::support::world::{Spec, World};

pub fn cases(cases: &mut Cases) {
    cases.suite("head_of_line");
    cases.add("ninety_unread_downloads_leave_siblings_alone", |world| {
        let mut client = unread(world, 90, 65_535, 90 * 65_535, "end;h;d1000000;t0");
        client.pump(|c| c.streams.values().all(|reply| reply.body.len() == 65_535), SOON);
        assert!(
            client.streams.values().all(|reply| reply.body.len() == 65_535),
            "windows are left"
        );
        (0..5).for_each(|_| client.must_work());
    });
    cases.add("ninety_downloads_with_closed_windows_leave_siblings_alone", |world| {
        let mut client = unread(world, 90, 0, 0, "end;h;d1000000;t0");
        client.pump(|_| false, Duration::from_millis(200));
        let id = client.call(&client.request());
        client.grant(id, 1000);
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("ninety_stalled_uploads_leave_siblings_alone", |world| {
        let mut client = world.client();
        let request = client.request().script("nocredit;hold");
        let ids: Vec<u32> = (0..90).map(|_| client.start(&request, false)).collect();
        stall(&mut client, &ids);
        (0..5).for_each(|_| client.must_work());
    });
    cases.add("an_upload_that_nobody_reads_leaves_a_large_sibling_alone", |world| {
        let mut client = world.client();
        let stuck = client.start(&client.request().script("nocredit;hold"), false);
        stall(&mut client, &[stuck]);
        let id = client.start(&client.request(), false);
        assert!(client.upload(id, 1_000_000, true), "the sibling stands still");
        assert_eq!(client.finish(id).status(), Some(0));
    });
    cases.add("a_download_goes_on_beside_one_that_nobody_reads", |world| {
        let mut client = world.client_with(Manners {
            settings: vec![(frame::INITIAL_WINDOW_SIZE, 30_000)],
            credit: false,
            ..Manners::default()
        });
        client.call(&client.request().script("end;h;d1000000;t0"));
        client.pump(|_| false, Duration::from_millis(100));
        let id = client.call(&client.request().script("end;h;d20000;t0"));
        assert_eq!(client.finish(id).status(), Some(0));
    });
    for (stream, connection, unread) in
        [(2 << 20, 5 << 20, 4), (4 << 20, 4 << 20, 2), (1 << 20, 1 << 20, 2), (300_000, 65_535, 1)]
    {
        let name = format!("answers_that_fill_{connection}_octets_leave_what_needs_none_alone");
        cases.add(name, move |world| {
            let mut client = world.client_with(Manners {
                settings: vec![(frame::INITIAL_WINDOW_SIZE, stream)],
                connection_bump: connection - 65_535,
                credit: false,
                ..Manners::default()
            });
            for _ in 0..unread {
                client.call(&client.request().script("end;h;d9000000;t0"));
            }
            client.pump(|_| false, Duration::from_millis(300));
            let id = client.call(&client.request().script("end;o5"));
            assert_eq!(client.finish(id).status(), Some(5), "a head waits behind bodies");
            let up = client.start(&client.request().script("end;o5"), false);
            assert!(client.upload(up, 3_000_000, true), "an upload waits behind downloads");
            assert_eq!(client.finish(up).status(), Some(5));
        });
    }
    cases.alone("five_hundred_unread_streams_leave_strangers_alone", Spec::default(), |world| {
        let mut clients: Vec<Client> =
            (0..5).map(|_| unread(world, 95, 65_535, 100 * 65_535, "end;h;d1000000;t0")).collect();
        std::thread::sleep(Duration::from_millis(500));
        let mut stranger = world.client();
        (0..20).for_each(|_| stranger.must_work());
        clients.iter_mut().for_each(Client::must_work);
    });
    cases.alone("sockets_that_nobody_reads_leave_strangers_alone", Spec::default(), |world| {
        let before = world.process().map(|process| process.resident());
        let mut clients: Vec<Client> =
            (0..16).map(|_| unread(world, 4, 16 << 20, 64 << 20, "end;h;d10000000;t0")).collect();
        std::thread::sleep(Duration::from_secs(1));
        let mut stranger = world.client();
        (0..20).for_each(|_| stranger.must_work());
        if let (Some(process), Some(before)) = (world.process(), before) {
            let grown = process.resident() - before;
            note(format!("64 downloads on 16 unread sockets: resident memory grew by {grown}"));
            assert!(grown < 16 << 20, "memory grew by {grown}");
        }
        for client in &mut clients {
            client.pump(|c| c.streams.values().all(|r| r.is_over()), Duration::from_secs(15));
            assert!(client.streams.values().all(|r| r.status() == Some(0)), "a download was lost");
        }
    });
    cases.add("a_driver_that_reads_nothing_leaves_other_clients_alone", |world| {
        let mut bad = world.client();
        let id = bad.start(&bad.request().script("deaf;hold"), false);
        std::thread::sleep(Duration::from_millis(100));
        bad.upload(id, 60_000, false);
        let mut good = world.client();
        let up = good.start(&good.request(), false);
        assert!(good.upload(up, 1_000_000, true));
        assert_eq!(good.finish(up).status(), Some(0));
    });
    cases.add("a_driver_connection_that_reads_nothing_leaves_another_team_alone", |world| {
        if !world.is_sconce() {
            return;
        }
        let mut client = world.client();
        let id = client.start(&client.request().script("deaf;hold"), false);
        client.pump(|_| false, Duration::from_millis(100));
        client.upload(id, 60_000, false);
        let web = client.request().team("web");
        (0..5).for_each(|_| drop(client.must_succeed(&web)));
        let up = client.start(&web, false);
        assert!(client.upload(up, 1_000_000, true), "the other team stands still");
        assert_eq!(client.finish(up).status(), Some(0));
    });
}

/// A client that has so many answers coming and gives no credit for any.
fn unread(world: &World, streams: usize, window: u32, connection: u32, script: &str) -> Client {
    let mut client = world.client_with(Manners {
        settings: vec![(frame::INITIAL_WINDOW_SIZE, window)],
        connection_bump: connection,
        credit: window > 1 << 20,
        receive_buffer: (window > 1 << 20).then_some(65_536),
        ..Manners::default()
    });
    let request = client.request().script(script);
    let block = request.block();
    let mut out = Vec::new();
    for _ in 0..streams {
        let id = client.take_id();
        client.streams.entry(id).or_default();
        out.extend(frame::headers(id, true, &block));
    }
    client.send(&out);
    client
}

/// Uploads to each stream until its window is shut, or 100,000 octets are gone.
fn stall(client: &mut Client, ids: &[u32]) {
    for id in ids {
        for _ in 0..12 {
            if client.budget < 9000 {
                client.pump(|c| c.budget >= 9000, SOON);
            }
            assert!(
                client.budget >= 9000,
                "the connection window stays shut: siblings cannot send"
            );
            if !client.upload_now(*id, 8192) {
                break;
            }
        }
    }
}
