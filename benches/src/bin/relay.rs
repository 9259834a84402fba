//! The yardstick: a TCP relay that knows nothing of what it carries.
//!
//! One thread, one task for each connection pair, one read buffer for all of them: about the
//! least that any proxy in user space can do.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll, ready};

use clap::Parser;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::default();
}

/// Relays every connection to one address.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where every connection goes.
    #[arg(long)]
    to: SocketAddr,
    /// A read takes so many KiB at most.
    #[arg(long, default_value_t = 512)]
    read_kib: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    SCRATCH.set(vec![0; arguments.read_kib << 10]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(serve(&arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &Arguments) -> io::Result<()> {
    let listener = TcpListener::bind(arguments.listen).await?;
    println!("listening {}", listener.local_addr()?);
    let mut pairs = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                pairs.spawn(relay(accepted?.0, arguments.to));
            }
            Some(_) = pairs.join_next() => {}
        }
    }
}

async fn relay(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let mut up = Way::new(client_read, server_write);
    let mut down = Way::new(server_read, client_write);
    poll_fn(|cx| {
        let up = up.poll(cx)?;
        let down = down.poll(cx)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction of a pair.
#[derive(Debug)]
struct Way<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    /// Octets read that the receiver had no room for, from `sent` on.
    left: Vec<u8>,
    sent: usize,
    stage: Stage,
}

/// How far a direction has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Flowing,
    Closing,
    Closed,
}

impl<'a> Way<'a> {
    fn new(from: ReadHalf<'a>, to: WriteHalf<'a>) -> Self {
        Self { from, to, left: Vec::new(), sent: 0, stage: Stage::Flowing }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.poll_left(cx))?;
            match self.stage {
                Stage::Flowing => ready!(SCRATCH.with_borrow_mut(|s| self.poll_once(cx, s)))?,
                Stage::Closing => {
                    ready!(Pin::new(&mut self.to).poll_shutdown(cx))?;
                    self.stage = Stage::Closed;
                }
                Stage::Closed => return Poll::Ready(Ok(())),
            }
        }
    }

    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.left.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += ready!(Pin::new(&mut self.to).poll_write(cx, rest))?;
        }
        self.left = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_once(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<()>> {
        let mut buf = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.from).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            self.stage = Stage::Closing;
            return Poll::Ready(Ok(()));
        }
        let sent = match Pin::new(&mut self.to).poll_write(cx, buf.filled())? {
            Poll::Ready(sent) => sent,
            Poll::Pending => 0,
        };
        self.left.extend_from_slice(buf.filled().get(sent..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}
