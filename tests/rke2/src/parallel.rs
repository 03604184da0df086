//! Waiting for several futures at once.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::Poll;

/// All results, in order, when the last one is there.
pub async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    let joined = std::future::poll_fn(|context| {
        for (future, result) in waiting.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    });
    pin!(joined).await;
    results.into_iter().map(|result| result.expect("the loop ended when all were there")).collect()
}
