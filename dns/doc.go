// Package dns is a resolver front for PBXes whose C library cannot be trusted with
// what strangers answer (CVE-2015-7547 and its relatives).
//
// A PBX asks it instead of a resolver. It asks the resolvers (upstreams), takes their
// replies apart, checks them against what was asked, and writes an answer of its own
// from the records that answer the question: not one byte of a reply is passed on as it
// came. Answers are cached, and kept within the sizes that a vulnerable library can bear.
//
// A hit in the cache is answered by the goroutine that has read the question, without an
// allocation. Everything else takes one of a limited number of flights, which questions
// of the same name and type share.
package dns
