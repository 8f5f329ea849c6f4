// An S13 client on npm's `diameter`: CER, one ECR for each IMEI given, DWR, DPR; one JSON line out.
// Usage: node node_client.js PORT IMEI…
'use strict';

const diameter = require('diameter');

const [port, ...imeis] = process.argv.slice(2);
const names = [['Origin-Host', 'mme.epc.example.org'], ['Origin-Realm', 'epc.example.org']];
const socket = diameter.createConnection({host: '127.0.0.1', port: Number(port)}, talk);

function plain(response) {
  const {header, body} = response;
  return {flags: header.flags, command: header.commandCode, body};
}

async function ask(application, command, session, avps) {
  const request = socket.diameterConnection.createRequest(application, command, session);
  if (session === undefined) request.body = [];
  request.body = request.body.concat(names, avps);
  return plain(await socket.diameterConnection.sendRequest(request, 10000));
}

async function talk() {
  const base = 'Diameter Common Messages';
  const said = {};
  said.cea = await ask(base, 'Capabilities-Exchange', undefined, [
    ['Host-IP-Address', '127.0.0.1'], ['Vendor-Id', 10415], ['Product-Name', 'node-diameter'],
    ['Supported-Vendor-Id', 10415],
    ['Vendor-Specific-Application-Id', [['Vendor-Id', 10415], ['Auth-Application-Id', 16777252]]],
  ]);
  said.ecas = [];
  for (const imei of imeis) {
    said.ecas.push(await ask(16777252, '3GPP-ME-Identity-Check', 'mme;1;' + imei, [
      ['Auth-Session-State', 1], ['Destination-Realm', 'epc.example.org'],
      ['User-Name', '432110123456789'],
      ['Terminal-Information', [['IMEI', Buffer.from(imei)], ['Software-Version', '07']]],
    ]));
  }
  said.dwa = await ask(base, 'Device-Watchdog', undefined, []);
  said.dpa = await ask(base, 'Disconnect-Peer', undefined, [['Disconnect-Cause', 0]]);
  console.log(JSON.stringify(said));
  socket.diameterConnection.end();
}

process.on('unhandledRejection', (wrong) => {
  console.error(wrong);
  process.exit(1);
});
socket.on('error', (wrong) => {
  console.error(wrong);
  process.exit(1);
});
