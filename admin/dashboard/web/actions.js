// What can be changed from the page, each after a question.
import { del, post, query } from "./api.js";
import { ask, oneLine, toast } from "./dom.js";

const told = (text, notes) => toast([text, ...(notes ?? [])].map(oneLine).join(" "));

export const unban = (address) => ask({
  title: `Lift the ban of ${address}?`,
  text: ["Its messages are read again at once, and its earlier bans no longer count towards a permanent one.", "If it goes on as before, it is banned again."],
  confirm: "Lift the ban",
  act: async () => told(`The ban of ${address} is lifted.`, (await del(query("/v1/ban", { address }))).notes),
});

export const allow = (address) => ask({
  title: `Put ${address} on the allow list?`,
  text: ["No ban or limit applies to it any more, whatever it sends. Allow only what you know."],
  fields: [{ name: "comment", label: "Comment", max: 200, example: "who this is" }],
  confirm: "Allow", danger: true,
  act: async ({ comment }) => told(`${address} is on the allow list.`, (await post("/v1/allow", { address, comment })).notes),
});

export const add = (list, address = "") => ask({
  title: list === "allow" ? "Allow an address" : "Deny an address",
  text: [list === "allow" ? "No ban or limit applies to what is on the allow list." : "Whatever it sends is dropped without an answer, until it is taken off the list."],
  fields: [
    { name: "address", label: "Address or prefix", value: address, required: true, max: 100, example: "192.0.2.0/24" },
    { name: "comment", label: "Comment", max: 200, example: "who this is" },
  ],
  confirm: list === "allow" ? "Allow" : "Deny", danger: true,
  act: async (q) => told(`${q.address} is on the ${list} list.`, (await post("/v1/" + list, q)).notes),
});

export const remove = (list, address) => ask({
  title: `Take ${address} off the ${list} list?`,
  text: [list === "allow" ? "Limits and bans apply to it again." : "Its messages are read again."],
  confirm: "Take off", danger: true,
  act: async () => told(`${address} is off the ${list} list.`, (await del(query("/v1/" + list, { address }))).notes),
});

// mailReport mails the report that parameters ask for, by one of the channels that send mails.
export const mailReport = (parameters, channels) => ask({
  title: "Mail this report?",
  text: ["It is made anew and sent now, the table as the text and the page with charts attached.", "If the mail server does not take it, it is not tried again."],
  fields: [{ name: "channel", label: "By channel", options: channels.map((c) => [c.name, oneLine(`${c.name}, to ${c.to}`)]) }],
  confirm: "Mail it",
  act: async ({ channel }) => {
    const q = new URLSearchParams(parameters);
    q.set("channel", channel);
    const done = await post("/v1/report?" + q);
    told(`Mailed: ${done.to} has taken it.`);
  },
});

export const ban = (address = "") => ask({
  title: "Ban an address",
  text: ["Whatever it sends is dropped without an answer. Open connections are closed."],
  fields: [
    { name: "address", label: "Address or prefix", value: address, required: true, max: 100, example: "192.0.2.7" },
    { name: "for", label: "For", value: "1h", options: [["1h", "1 hour"], ["24h", "1 day"], ["7d", "7 days"], ["30d", "30 days"], ["", "ever"]] },
    { name: "reason", label: "Reason", max: 200, example: "for those who ask later" },
  ],
  confirm: "Ban", danger: true,
  act: async (q) => told(`${q.address} is banned.`, (await post("/v1/ban", q)).notes),
});
