//! A small HTTP server on loopback that answers as it is told.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A question: its path and its parameters, as they were meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Question {
    pub(crate) path: String,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) headers: Vec<String>,
}

impl Question {
    pub(crate) fn get(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// The answer's status and body.
pub(crate) type Answer = (u16, String);

pub(crate) struct Server {
    pub(crate) url: String,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl Server {
    /// The server lives as long as the test's process.
    pub(crate) fn start(answer: impl Fn(&Question) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let questions = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&questions);
        thread::spawn(move || {
            let answer = Arc::new(answer);
            for stream in listener.incoming().flatten() {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                // One that goes away in the middle is no fault of the test.
                thread::spawn(move || drop(serve(&stream, &*answer, &asked)));
            }
        });
        Self { url, questions }
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Question> {
        self.questions.lock().expect("no test panics with it").clone()
    }
}

fn serve(
    stream: &TcpStream,
    answer: &dyn Fn(&Question) -> Option<Answer>,
    asked: &Mutex<Vec<Question>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut question = Question { path: path.to_owned(), ..Question::default() };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        question.parameters.push((plain(key), plain(value)));
    }
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        question.headers.push(line);
    }
    asked.lock().expect("no test panics with it").push(question.clone());
    let Some((status, body)) = answer(&question) else { return Ok(()) };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Percent-encoded text as it was meant.
fn plain(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, tail @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                bytes.push(u8::from_str_radix(digits, 16).expect("hexadecimal digits"));
                rest = tail;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).expect("text")
}
