//! Questions and answers of any size, over a real NATS; and what becomes of those of a peer that lies.

use super::*;
use crate::store::tests::both::nats_clients;
use async_nats::Request;
use tokio_util::task::AbortOnDropHandle;

const MOST: usize = 64 << 10;
const SIZES: Sizes = Sizes { largest: 4 << 20, memory: 4 << 20 };
const LONG: Duration = Duration::from_secs(60);

fn peers(client: &Client) -> Peers {
    Peers::new(client.clone(), "omni", MOST, SIZES)
}

/// Bytes of which no two pieces are the same.
fn bytes(size: usize) -> Bytes {
    (0..).flat_map(|number: u32| number.to_be_bytes()).take(size).collect()
}

/// Returns when the server knows of everything that a client has subscribed to.
async fn is_there(client: &Client) {
    let inbox = client.new_inbox();
    let mut own = client.subscribe(inbox.clone()).await.expect("listens");
    client.publish(inbox, Bytes::new()).await.expect("is said");
    own.next().await.expect("hears itself");
}

/// A host that answers what it is asked with the same backwards, and `len N` with so many bytes.
async fn answering(client: &Client, host: Uuid) -> AbortOnDropHandle<()> {
    let mut questions = peers(client).questions(host).await.expect("listens");
    is_there(client).await;
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            tokio::spawn(async move {
                let Some(asked) = question.read().await else { return };
                let wanted = std::str::from_utf8(&asked).ok().and_then(|text| text.strip_prefix("len ")?.parse().ok());
                let answer = wanted.map_or_else(|| asked.iter().rev().copied().collect(), bytes);
                question.answer(answer).await;
            });
        }
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_answers_of_any_size_arrive_as_they_were() {
    let Some([asking, answers]) = nats_clients().await else { return };
    let (peers, host) = (peers(&asking), Uuid::now_v7());
    let _answering = answering(&answers, host).await;
    let ask = async |size: usize| {
        let answer = peers.ask(host, bytes(size), LONG).await.unwrap_or_else(|error| panic!("{size}: {error}"));
        let back: Bytes = answer.iter().rev().copied().collect();
        assert!(back == bytes(size), "{size} bytes came back as other ones");
    };
    for size in [0, 1, MOST, MOST + 1, 2 * MOST, (3 << 20) + 7] {
        ask(size).await;
    }
    // Each takes all the room that there is, and gives it back.
    for _ in 0..3 {
        ask(SIZES.largest).await;
    }
    // Many at the same time wait for each other.
    let many = (0..16).map(|number| ask((1 << 20) + number));
    futures_util::future::join_all(many).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_question_and_its_answer_are_a_message_each() {
    let Some([asking, answers, tap]) = nats_clients().await else { return };
    let (peers, host) = (peers(&asking), Uuid::now_v7());
    let _answering = answering(&answers, host).await;
    let mut seen = tap.subscribe(">").await.expect("listens");
    is_there(&tap).await;
    asking.publish("begin", Bytes::new()).await.expect("is said");
    peers.ask(host, bytes(MOST), LONG).await.expect("an answer");
    asking.publish("over", Bytes::new()).await.expect("is said");
    let mut next = async || seen.next().await.expect("a message").subject.to_string();
    while next().await != "begin" {}
    let mut messages = 0;
    while next().await != "over" {
        messages += 1;
    }
    assert_eq!(messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_before_and_after() {
    let Some([asking, answers]) = nats_clients().await else { return };
    let (peers, host) = (peers(&asking), Uuid::now_v7());
    let _answering = answering(&answers, host).await;
    let error = peers.ask(host, bytes(SIZES.largest + 1), LONG).await.expect_err("is refused");
    assert!(matches!(error, AskError::TooLarge { .. }), "{error}");
    let question = format!("len {}", SIZES.largest + 1);
    let error = peers.ask(host, question.into(), LONG).await.expect_err("is refused");
    assert!(matches!(error, AskError::Lost(_)) && error.to_string().contains("larger than"), "{error}");
    let nobody = peers.ask(Uuid::now_v7(), bytes(SIZES.largest), LONG).await.expect_err("nobody is there");
    assert!(matches!(nobody, AskError::NotThere), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_fetches_take_no_more_room_than_there_is() {
    let Some([asking, answers]) = nats_clients().await else { return };
    let (peers, host) = (peers(&asking), Uuid::now_v7());
    let _answering = answering(&answers, host).await;
    let ask = async || {
        let request = Request::new().payload(format!("len {}", SIZES.largest).into()).timeout(Some(LONG));
        asking.send_request(peers.subject(host), request).await.expect("an answer")
    };
    assert!(said(&ask().await, OFFER).is_some());
    assert_eq!(said(&ask().await, REFUSED), Some(ANSWER), "the first one is not fetched yet");
}

/// What becomes of a question to a host that answers it with these headers.
async fn answered_with(headers: HeaderMap) -> Option<AskError> {
    let [asking, lying] = nats_clients().await?;
    let (peers, host) = (peers(&asking), Uuid::now_v7());
    let mut asked = lying.subscribe(peers.subject(host)).await.expect("listens");
    is_there(&lying).await;
    let asking = tokio::spawn(async move { peers.ask(host, bytes(10), LONG).await });
    let reply = asked.next().await.expect("a question").reply.expect("an address");
    lying.publish_with_headers(reply, headers, Bytes::new()).await.expect("is said");
    Some(asking.await.expect("ends").expect_err("that is no answer"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_none_is_no_answer() {
    let id = Uuid::now_v7();
    for (offer, why) in [
        ("nonsense".to_owned(), "cannot be read"),
        (format!("{id} {} 65536", SIZES.largest + 1), "larger than"),
        (format!("{id} 100000 65536"), "did not come"),
    ] {
        let Some(error) = answered_with(header(OFFER, offer.clone())).await else { return };
        assert!(matches!(error, AskError::Lost(_)) && error.to_string().contains(why), "{offer}: {error}");
    }
}

/// What becomes of an answer whose parts a peer gives as it likes: number and size of what it says when it is asked for one.
async fn given(lies: impl Fn(usize) -> (Option<usize>, usize) + Send + 'static) -> Option<Result<Bytes, Failed>> {
    let [asking, lying] = nats_clients().await?;
    let peers = peers(&asking);
    let offer = Offer::of(3 * MOST, MOST).expect("an offer");
    let mut asked = lying.subscribe(format!("omni.hosts.parts.{}", offer.id.simple())).await.expect("listens");
    is_there(&lying).await;
    let _lying = AbortOnDropHandle::new(tokio::spawn(async move {
        while let Some(message) = asked.next().await {
            let number = std::str::from_utf8(&message.payload).expect("a number").parse().expect("a number");
            let (number, size) = lies(number);
            let headers = number.map_or_else(HeaderMap::new, |number| header("Omni-Part", number.to_string()));
            let reply = message.reply.expect("an address");
            lying.publish_with_headers(reply, headers, bytes(size)).await.expect("is said");
        }
    }));
    Some(peers.carrier.fetch(offer, &peers.carrier.answers).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_not_what_was_asked_for_make_no_answer() {
    use super::super::parts::Broken;
    let Some(honest) = given(|number| (Some(number), MOST)).await else { return };
    assert_eq!(honest.expect("all of it").len(), 3 * MOST);
    let broken = |broken| Some(Err(Failed::Broken(broken)));
    assert_eq!(given(|number| (Some(2 - number), MOST)).await, broken(Broken::Order), "backwards");
    assert_eq!(given(|_| (Some(0), MOST)).await, broken(Broken::Order), "the same again");
    assert_eq!(given(|_| (None, MOST)).await, broken(Broken::Order), "without a number");
    assert_eq!(given(|number| (Some(number), MOST - 1)).await, broken(Broken::Size), "too short");
    assert_eq!(given(|number| (Some(number), MOST + 1)).await, broken(Broken::Size), "too long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_of_which_parts_are_missing_is_never_read() {
    let Some([asking, answers]) = nats_clients().await else { return };
    let host = Uuid::now_v7();
    let mut questions = peers(&answers).questions(host).await.expect("listens");
    let offer = Offer::of(3 * MOST, MOST).expect("an offer");
    is_there(&answers).await;
    let mut parts = asking.subscribe(format!("omni.hosts.parts.{}", offer.id.simple())).await.expect("listens");
    let request = Request::new().headers(header(OFFER, offer.to_string())).timeout(Some(LONG));
    let subject = peers(&asking).subject(host);
    let refusal = tokio::spawn({
        let asking = asking.clone();
        async move { asking.send_request(subject, request).await }
    });
    let question = questions.next().await.expect("a question");
    let reading = tokio::spawn(async move { question.read().await });
    // Whoever asked is gone after the first part.
    let first = parts.next().await.expect("is asked for a part");
    parts.unsubscribe().await.expect("goes");
    asking
        .publish_with_headers(first.reply.expect("an address"), header("Omni-Part", "0".into()), bytes(MOST))
        .await
        .expect("is given");
    assert_eq!(reading.await.expect("ends"), None);
    let refusal = refusal.await.expect("ends").expect("an answer");
    assert_eq!(said(&refusal, REFUSED), Some(QUESTION));
}
