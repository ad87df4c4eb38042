// Compiled and never run: the same from CommonJS.
import peerage = require('peerage');

async function main(): Promise<peerage.Member | undefined> {
  const cluster = await peerage.Cluster.start({ cluster: 'c', nodeId: 'n', insecure: true });
  cluster.on('memberJoined', ({ member }) => void member.addr);
  const error = new peerage.PeerageError(peerage.Code.Timeout, 'late');
  const code: peerage.Code = error.code;
  void code;
  return cluster.get('n');
}
void main();
