// Package inbox owns conversations: how a message comes in, who may answer it, how an
// answer goes out, and how one member hands over to another.
//
// Three ideas carry it. A conversation has one owner at a time and a number, the fence,
// that grows with every change of owner; an AI member's write and every dispatch must name
// the current fence. Every decision is taken under the conversation's row lock, which is
// the one point where two actors meet. And nothing outside Postgres decides anything: a
// message is accepted when its transaction has committed, and a send is announced in the
// database before the network is touched.
//
// Rows are always locked in the order timer, inbound, member, contact, lead, conversation,
// message, handoff, so that two transactions never wait for each other in a circle. A timer
// that is no longer wanted may stay: each one looks, under the lock, whether it still matters.
// Conversations are locked FOR NO KEY UPDATE, because plain FOR UPDATE would wait for
// every insert that merely refers to them.
//
// Domain functions take the caller's transaction and a ctx with the actor; they check the
// actor's permission before they write. Those that open transactions are the edges: the
// Batcher, the Courier, the Host and the Switchboard.
package inbox
