# pki.sh: three authorities (cluster, etcd, front proxy), a certificate for every component and a
# kubeconfig for every client. Sourced by `up`. Valid for 30 days: a test cluster does not live that
# long.

make_authority() { # name
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-keyout "$pki/$1.key" -out "$pki/$1.crt" -subj "/CN=$1" \
		-addext basicConstraints=critical,CA:TRUE,pathlen:0 \
		-addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null
}
make_leaf() { # authority name subject usage [alternative names]
	openssl req -x509 -CA "$pki/$1.crt" -CAkey "$pki/$1.key" \
		-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
		-keyout "$pki/$2.key" -out "$pki/$2.crt" -subj "$3" \
		-addext basicConstraints=critical,CA:FALSE \
		-addext keyUsage=critical,digitalSignature -addext extendedKeyUsage="$4" \
		${5:+-addext subjectAltName="$5"} 2>/dev/null
}
make_client() { # name subject
	make_leaf ca "$1" "$2" clientAuth
	cat >"$state/kubeconfig/$1" <<-E
		apiVersion: v1
		kind: Config
		current-context: llmjob
		clusters:
		- {name: llmjob, cluster: {server: "$api", certificate-authority: $pki/ca.crt}}
		users:
		- {name: $1, user: {client-certificate: $pki/$1.crt, client-key: $pki/$1.key}}
		contexts: [{name: llmjob, context: {cluster: llmjob, user: $1}}]
	E
}

make_pki() { # nodes
	local i name names
	mkdir -m 700 "$pki" "$state/kubeconfig"
	for name in ca etcd-ca front-proxy-ca; do make_authority $name; done
	make_leaf etcd-ca etcd /CN=etcd serverAuth,clientAuth "IP:$host_ip"
	make_leaf etcd-ca etcd-client /CN=kube-apiserver clientAuth
	make_leaf front-proxy-ca front-proxy /CN=front-proxy-client clientAuth
	names=IP:$host_ip,IP:${service_net%.0/16}.1
	for name in kubernetes{,.default{,.svc{,.cluster.local}}}; do names=$names,DNS:$name; done
	make_leaf ca apiserver /CN=kube-apiserver serverAuth "$names"
	make_leaf ca apiserver-kubelet /CN=apiserver-kubelet clientAuth
	make_client admin /O=system:masters/CN=admin
	make_client controller-manager /CN=system:kube-controller-manager
	make_client scheduler /CN=system:kube-scheduler
	make_client proxy /CN=system:kube-proxy
	make_client coredns /CN=coredns
	for ((i = 0; i < $1; i++)); do
		make_client node-$i /O=system:nodes/CN=system:node:node-$i
		make_leaf ca kubelet-$i /O=system:nodes/CN=system:node:node-$i serverAuth \
			"IP:$(node_ip $i),DNS:node-$i"
	done
	openssl ecparam -name prime256v1 -genkey -noout -out "$pki/sa.key"
	openssl ec -in "$pki/sa.key" -pubout -out "$pki/sa.pub" 2>/dev/null
}
