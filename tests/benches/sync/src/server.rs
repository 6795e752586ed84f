//! A small S3 server: `ListObjectsV2`, `HeadObject`, and `GetObject` with ranges and `If-Match`.
//!
//! One thread for each connection, and `sendfile` from memory: it shares its cores with those it serves, so what
//! counts is what it costs. It does not look at signatures.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader, IoSlice, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::process::{Child, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::MemfdFlags;

use crate::objects::{Case, Objects};

/// The only bucket.
pub(crate) const BUCKET: &str = "bench";
/// Before every key.
pub(crate) const PREFIX: &str = "models/";

const WHEN: &str = "Tue, 24 Nov 2026 00:00:00 GMT";

/// The server, in a process of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
}

impl Process {
    pub(crate) fn start(case: &Case, quick: bool) -> Result<Self> {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command
            .args(["--ours", "-", "--python", "-"])
            .args(quick.then_some("--quick"))
            .args(["serve", case.name]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut address)?;
        ensure!(!address.trim().is_empty(), "the server did not start");
        Ok(Self { child, address: address.trim().to_owned() })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address.trim_end_matches(":80"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

struct Served {
    objects: Objects,
    memory: File,
}

/// Serves until the standard input ends.
pub(crate) fn serve(objects: Objects) -> Result<()> {
    let mut memory = File::from(rustix::fs::memfd_create("block", MemfdFlags::CLOEXEC)?);
    memory.write_all(&objects.block)?;
    let served = Arc::new(Served { objects, memory });
    let why = "cannot listen on 127.0.0.1:80, the only port that the AWS CRT asks an endpoint of one's own at; be root";
    let listener = TcpListener::bind("127.0.0.1:80").context(why)?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let served = Arc::clone(&served);
            // A client that goes away is its own affair.
            std::thread::spawn(move || served.talk(&stream).ok());
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

impl Served {
    fn talk(&self, stream: &TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(16 << 10, stream);
        loop {
            let (mut target, mut range, mut condition) = (String::new(), None, None);
            if reader.read_line(&mut target)? == 0 {
                return Ok(());
            }
            let mut line = String::new();
            loop {
                line.clear();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim_end().split_once(':') else { break };
                if name.eq_ignore_ascii_case("range") {
                    range = Some(value.trim().trim_start_matches("bytes=").to_owned());
                } else if name.eq_ignore_ascii_case("if-match") {
                    condition = Some(value.trim().trim_matches('"').to_owned());
                }
            }
            let mut words = target.split(' ');
            let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let key = path.trim_start_matches('/').trim_start_matches(BUCKET).trim_start_matches('/');
            if key.is_empty() {
                let page = if method == "HEAD" { String::new() } else { self.list(query) };
                answer(stream, "200 OK", "Content-Type: application/xml\r\n", page.as_bytes())?;
            } else {
                let key = key.replace("%2F", "/");
                let file = key.strip_prefix(PREFIX).and_then(|path| path.get(5..10)?.parse::<usize>().ok());
                match file.filter(|file| *file < self.objects.files) {
                    None => answer(stream, "404 Not Found", "", b"<Error><Code>NoSuchKey</Code></Error>")?,
                    Some(file) if condition.is_some_and(|etag| etag != self.etag(file)) => {
                        answer(stream, "412 Precondition Failed", "", b"")?;
                    }
                    Some(file) => self.object(stream, method, file, range.as_deref())?,
                }
            }
        }
    }

    /// Of the form that S3 gives to uploads in parts.
    fn etag(&self, file: usize) -> String {
        format!("{:032x}-2", self.objects.crcs[file])
    }

    fn list(&self, query: &str) -> String {
        let value = |name| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let from: usize = value("continuation-token").and_then(|token| token.parse().ok()).unwrap_or(0);
        // In the order of their keys, as S3 lists them.
        let mut keys: Vec<(String, usize)> =
            (0..self.objects.files).map(|file| (Objects::path(file), file)).collect();
        keys.sort();
        let page = &keys[from.min(keys.len())..(from + 1_000).min(keys.len())];
        let mut text = format!("<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{}</KeyCount>", page.len());
        if value("encoding-type").is_some() {
            text.push_str("<EncodingType>url</EncodingType>");
        }
        for (path, file) in page {
            let (size, etag) = (self.objects.size, self.etag(*file));
            write!(
                text,
                "<Contents><Key>{PREFIX}{path}</Key><LastModified>2026-11-24T00:00:00.000Z</LastModified>\
                 <ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
            .ok();
        }
        let next = from + page.len();
        if next < keys.len() {
            write!(text, "<NextContinuationToken>{next}</NextContinuationToken>").ok();
        }
        write!(text, "<IsTruncated>{}</IsTruncated></ListBucketResult>", next < keys.len()).ok();
        text
    }

    fn object(&self, stream: &TcpStream, method: &str, file: usize, range: Option<&str>) -> Result<()> {
        let size = self.objects.size;
        let asked = range.and_then(|range| {
            let (from, to) = range.split_once('-')?;
            Some(from.parse().ok()?..to.parse().map_or(size, |to: u64| (to + 1).min(size)))
        });
        let bytes: Range<u64> = asked.clone().unwrap_or(0..size);
        let (status, mut head) = match asked {
            None => {
                let crc = base64(&self.objects.crcs[file].to_be_bytes());
                ("200 OK", format!("x-amz-checksum-crc64nvme: {crc}\r\nx-amz-checksum-type: FULL_OBJECT\r\n"))
            }
            Some(Range { start, end }) => {
                ("206 Partial Content", format!("Content-Range: bytes {start}-{}/{size}\r\n", end - 1))
            }
        };
        let length = bytes.end - bytes.start;
        head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nContent-Type: binary/octet-stream\r\n\
             Accept-Ranges: bytes\r\nETag: \"{}\"\r\nLast-Modified: {WHEN}\r\nDate: {WHEN}\r\n\
             x-amz-request-id: 1\r\n{head}\r\n",
            self.etag(file)
        );
        let mut out = stream;
        if method == "HEAD" {
            return Ok(out.write_all(head.as_bytes())?);
        }
        let mut slices = Objects::slices(file, bytes);
        if length <= 64 << 10 {
            let body: Vec<u8> = slices.flat_map(|slice| self.objects.block[slice].to_vec()).collect();
            return write_both(out, head.as_bytes(), &body);
        }
        rustix::net::send(stream, head.as_bytes(), rustix::net::SendFlags::MORE)?;
        slices.try_for_each(|slice| {
            let (mut at, end) = (slice.start as u64, slice.end as u64);
            while at < end {
                let count = usize::try_from(end - at)?;
                let sent = rustix::fs::sendfile(stream, &self.memory, Some(&mut at), count)?;
                ensure!(sent > 0, "the client went away");
            }
            Ok(())
        })
    }
}

fn answer(stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nDate: {WHEN}\r\nx-amz-request-id: 1\r\n{headers}\r\n",
        body.len()
    );
    write_both(stream, head.as_bytes(), body)
}

fn write_both(mut stream: &TcpStream, head: &[u8], body: &[u8]) -> Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut rest = slices.as_mut_slice();
    while !rest.is_empty() {
        let n = stream.write_vectored(rest)?;
        ensure!(n > 0, "the client went away");
        IoSlice::advance_slices(&mut rest, n);
    }
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |n, i| n << 8 | usize::from(three.get(i).copied().unwrap_or(0)));
        let digit =
            |i: usize| if i <= three.len() { char::from(DIGITS[number >> (18 - 6 * i) & 63]) } else { '=' };
        text.extend((0..4).map(digit));
    }
    text
}
