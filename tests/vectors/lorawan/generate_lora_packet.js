// Writes lora-packet.json: uplinks as another LoRaWAN implementation builds them.
//
//   npm install lora-packet@0.9.3 && node generate_lora_packet.js > lora-packet.json
//
// lora-packet (MIT, https://github.com/anthonykirby/lora-packet) does the work; this file only names the cases.
const lora = require("lora-packet");
const version = require("lora-packet/package.json").version;

const hex = (text) => Buffer.from(text, "hex");
const letters = (count) => Buffer.from(Array.from({ length: count }, (_, index) => (index * 7 + 3) & 0xff));

const STREET = { devAddr: "26011bda", nwkSKey: "2b7e151628aed2a6abf7158809cf4f3c", appSKey: "3c4fcf098815f7aba6d2ae2816157e2b" };
const SCHOOL = { devAddr: "01ab23cd", nwkSKey: "32e84ba4bc7bbb20235634d3c18b8ef7", appSKey: "fe39a62848a743ad75ea6644103fddbb" };

// name, session, frame counter, port (null: no FPort), plaintext, more FCtrl/FOpts/type
const CASES = [
  ["first frame", STREET, 0, 1, hex("016700d2026873"), {}],
  ["second frame", STREET, 1, 1, hex("016700d3026873"), {}],
  ["adaptive data rate flag", SCHOOL, 0, 2, hex("016700d2026873"), { adr: true }],
  ["confirmed", STREET, 2, 1, hex("016700d4026873"), { confirmed: true }],
  ["acknowledges a downlink", STREET, 3, 1, hex("016700d5026873"), { ack: true }],
  ["asks for an answer to its data rate", STREET, 4, 1, hex("016700d6026873"), { adr: true, adrAckReq: true }],
  ["LinkCheckReq in FOpts", STREET, 5, 1, hex("016700d7026873"), { fOpts: "02" }],
  ["fifteen octets of FOpts", STREET, 6, 1, hex("016700d8026873"), { fOpts: "0307030703070307030703070307ff" }],
  ["no FPort, no payload", STREET, 7, null, hex(""), {}],
  ["no FPort, FOpts only", STREET, 8, null, hex(""), { fOpts: "02" }],
  ["FPort with an empty payload", STREET, 9, 1, hex(""), {}],
  ["MAC commands on port 0", STREET, 10, 0, hex("02"), {}],
  ["port 223, the last for applications", STREET, 11, 223, hex("beef"), {}],
  ["port 224, LoRaWAN test protocol", STREET, 12, 224, hex("0102"), {}],
  ["one octet", STREET, 13, 10, hex("00"), {}],
  ["sixteen octets, one cipher block", STREET, 14, 10, letters(16), {}],
  ["seventeen octets, two cipher blocks", STREET, 15, 10, letters(17), {}],
  ["222 octets, the most at DR4 to DR7 with a repeater", STREET, 16, 10, letters(222), {}],
  ["242 octets, the most at DR4 to DR7", STREET, 17, 10, letters(242), {}],
  ["counter 65535, the last of the first round", STREET, 65535, 1, hex("016700d2026873"), {}],
  ["counter 65536, 0 on air", STREET, 65536, 1, hex("016700d3026873"), {}],
  ["counter 65537, 1 on air", SCHOOL, 65537, 2, hex("016700d2026873"), {}],
  ["counter 131071, 65535 on air", STREET, 131071, 1, hex("016700d4026873"), {}],
  ["counter 131072, 0 on air again", STREET, 131072, 1, hex("016700d5026873"), {}],
  ["counter 16909060, every octet another", STREET, 0x01020304, 1, hex("016700d6026873"), {}],
  ["counter 4294967295, the last of all", STREET, 4294967295, 1, hex("016700d7026873"), {}],
];

const frames = CASES.map(([name, session, fCnt, port, plaintext, more]) => {
  const appSKey = hex(session.appSKey);
  const nwkSKey = hex(session.nwkSKey);
  const msb = Buffer.alloc(2);
  msb.writeUInt16LE(Math.floor(fCnt / 65536));
  const fields = {
    MType: more.confirmed ? "Confirmed Data Up" : "Unconfirmed Data Up",
    DevAddr: hex(session.devAddr),
    FCtrl: { ADR: !!more.adr, ADRACKReq: !!more.adrAckReq, ACK: !!more.ack, FPending: false },
    FCnt: fCnt % 65536,
    FPort: port === null ? 1 : port,
    payload: plaintext,
  };
  if (more.fOpts) fields.FOpts = hex(more.fOpts);
  const packet = lora.fromFields(fields, appSKey, nwkSKey, undefined, msb);
  if (port === null) {
    // fromFields always adds a port; take it out, let the library merge and sign again
    packet.FPort = Buffer.alloc(0);
    packet.FRMPayload = Buffer.alloc(0);
    packet._mergeGroupFields();
    lora.recalculateMIC(packet, nwkSKey, undefined, msb);
    packet._mergeGroupFields();
  }
  const wire = packet.getPHYPayload();
  const again = lora.fromWire(wire);
  if (!lora.verifyMIC(again, nwkSKey, undefined, msb)) throw new Error(name + ": lora-packet refuses its own MIC");
  if (port !== null && plaintext.length && !lora.decrypt(again, appSKey, nwkSKey, msb).equals(plaintext))
    throw new Error(name + ": lora-packet reads another plaintext");
  return {
    name, hex: wire.toString("hex"), dev_addr: session.devAddr, nwk_skey: session.nwkSKey, app_skey: session.appSKey,
    f_cnt: fCnt, f_port: port, plaintext: plaintext.toString("hex"), f_opts: more.fOpts || "",
    confirmed: !!more.confirmed, adr: !!more.adr, adr_ack_req: !!more.adrAckReq, ack: !!more.ack,
  };
});
const rows = frames.map((frame) => "    " + JSON.stringify(frame)).join(",\n");
process.stdout.write(`{\n  "source": "npm lora-packet ${version}, by generate_lora_packet.js",\n  "frames": [\n${rows}\n  ]\n}\n`);
