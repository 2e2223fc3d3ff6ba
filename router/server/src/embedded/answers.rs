//! What a store answers to the questions of a node: rows read and put together, nothing judged.

#[cfg(test)]
mod tests;

use router_core::fold::{Loaded, Lookup};
use router_core::membership::Conversation;
use router_core::node::{Answer, InboxPage, NamedMessage, Question, Summary, UserConversation};
use router_core::sessions::Entry;
use router_records::row::{
    ConversationRow, DedupeRow, DeviceRow, InboxRow, MessageRow, ReceiptRow, Table, UserConversationRow,
};
use router_storage::store::{Direction, Limits, Page, Range, Reads, StoreError};
use wire_base::ids::{ConversationId, Position, Seq, UserId};

/// Answers a question.
///
/// Order: every row that the question must see was applied.
/// Errors: those of the store; nothing was read then.
pub(super) fn answer<S: Reads>(store: &S, question: &Question) -> Result<Answer, StoreError> {
    Ok(match *question {
        Question::Lookup(lookup) => Answer::Loaded(load(store, lookup)?),
        Question::Inbox {
            user,
            after,
            limit,
            bytes_max,
            oldest,
        } => Answer::Inbox(inbox(store, user, after, limit, bytes_max, oldest)?),
        Question::Messages {
            conversation,
            before,
            limit,
            bytes_max,
        } => Answer::Messages(messages_before(store, conversation, before, limit, bytes_max)?.rows),
        Question::History {
            conversation,
            before,
            limit,
            bytes_max,
        } => {
            let page = messages_before(store, conversation, before, limit, bytes_max)?;
            let state = load_conversation(store, conversation)?;
            Answer::History {
                receipts: receipts(store, state.as_ref())?,
                state,
                messages: page.rows,
                more: page.more,
            }
        }
        Question::Named { message_id, limit } => {
            let found = first(store, Range::<DedupeRow>::of(message_id), limit)?;
            let named = found.into_iter().map(|index| {
                let state = load_conversation(store, index.conversation)?;
                Ok(NamedMessage { index, state })
            });
            Answer::Named(named.collect::<Result<_, StoreError>>()?)
        }
        Question::Conversations { user, after, limit } => {
            let found = first(store, Range::<UserConversationRow>::of(user).after(after), limit)?;
            let conversations = found.into_iter().map(|row| {
                let conversation = row.conversation;
                let state = load_conversation(store, conversation)?;
                Ok(UserConversation { conversation, state })
            });
            Answer::Conversations(conversations.collect::<Result<_, StoreError>>()?)
        }
        Question::Summaries(ref conversations) => {
            let summaries = conversations.iter().map(|id| summary(store, *id));
            Answer::Summaries(summaries.collect::<Result<_, StoreError>>()?)
        }
    })
}

fn load<S: Reads>(store: &S, lookup: Lookup) -> Result<Loaded, StoreError> {
    Ok(match lookup {
        Lookup::Conversation(id) => Loaded::Conversation(id, load_conversation(store, id)?),
        Lookup::Dedupe(key) => {
            let row = store.get(key.message_id, (key.sender, key.conversation))?;
            Loaded::Dedupe(key, row)
        }
        Lookup::Receipt(conversation, user) => {
            Loaded::Receipt(conversation, user, store.get(conversation, user)?)
        }
        // An inbox without a log of its own gets each entry once, and has no such rows.
        Lookup::LastSent(user, conversation) => Loaded::LastSent(user, conversation, None),
        Lookup::Gap(gap) => Loaded::Gap(gap, Vec::new()),
        Lookup::Entries(user, offset) => Loaded::Entries(user, offset, Vec::new()),
        Lookup::User(user) => Loaded::User {
            user,
            devices: first(store, Range::<DeviceRow>::of(user), usize::MAX)?,
            head: head(store, user)?,
        },
    })
}

fn inbox<S: Reads>(
    store: &S,
    user: UserId,
    after: Position,
    limit: usize,
    bytes_max: usize,
    oldest: Position,
) -> Result<InboxPage, StoreError> {
    let mut page = InboxPage::default();
    let mut bytes = 0;
    for row in first(store, Range::<InboxRow>::of(user).after(Some(after)), limit)? {
        page.through = Some(row.position);
        // The newest entry of an inbox is kept past retention, as its head; its message may be gone.
        if row.position <= oldest {
            continue;
        }
        let message: MessageRow =
            store
                .get(row.conversation, row.seq)?
                .ok_or_else(|| StoreError::Damaged {
                    key: format!("message {} {}", row.conversation, row.seq.0),
                    reason: "an inbox points to it and it is not there".into(),
                })?;
        let message = message.message;
        bytes += Entry::new(row.position, &message).bytes as usize;
        page.entries.push((row.position, message));
        if bytes >= bytes_max {
            break;
        }
    }
    Ok(page)
}

fn summary<S: Reads>(store: &S, conversation: ConversationId) -> Result<Summary, StoreError> {
    let state = load_conversation(store, conversation)?;
    let last = match &state {
        Some(state) => store.get(conversation, state.last_seq)?,
        None => None,
    };
    Ok(Summary {
        conversation,
        last,
        receipts: receipts(store, state.as_ref())?,
        state,
    })
}

/// Returns the state of a conversation with its members.
fn load_conversation<S: Reads>(store: &S, id: ConversationId) -> Result<Option<Conversation>, StoreError> {
    let row: Option<ConversationRow> = store.get(id, ())?;
    Ok(row.map(Conversation::from))
}

/// Returns the watermarks of every member of a conversation that the store knows.
fn receipts<S: Reads>(store: &S, state: Option<&Conversation>) -> Result<Vec<ReceiptRow>, StoreError> {
    let Some(state) = state else {
        return Ok(Vec::new());
    };
    let mut receipts = Vec::new();
    for user in state.membership.members() {
        receipts.extend(store.get::<ReceiptRow>(state.id, user)?);
    }
    Ok(receipts)
}

/// Returns the first rows of a range.
fn first<T: Table>(store: &impl Reads, range: Range<T>, limit: usize) -> Result<Vec<T>, StoreError> {
    let page = store.scan(range, Direction::Forward, Limits::rows(limit))?;
    Ok(page.rows)
}

/// Returns the position of the newest entry of an inbox.
fn head(store: &impl Reads, user: UserId) -> Result<Option<Position>, StoreError> {
    let newest = store.scan(Range::<InboxRow>::of(user), Direction::Backward, Limits::rows(1))?;
    Ok(newest.rows.first().map(|row| row.position))
}

/// Returns messages older than `before` (the newest ones when `None`), newest first.
fn messages_before(
    store: &impl Reads,
    conversation: ConversationId,
    before: Option<Seq>,
    rows: usize,
    bytes: usize,
) -> Result<Page<MessageRow>, StoreError> {
    let range = Range::of(conversation).before(before);
    store.scan(range, Direction::Backward, Limits { rows, bytes })
}
