#!/usr/bin/env python3
"""Runs of chunks. A row: F(g) | C(process, g) | H(length, g) | T(distance, g), and a word for the run that starts there: o(process, g) | f(process, g).
Make: F(g) -> C(me, g+1) for each -> word = o(me, g) -> head H -> tails T. Free: word o(me) -> f(me) -> row still the same H? -> tails T(d) -> F -> head F.
Sweep: C(dead) -> F; H with a word of the dead: word -> f(me), go on as the one who frees. Every interleaving, kills anywhere; also that a sweep is stale.
usage: runs.py CHUNKS PROCESSES OPERATIONS KILLS [tailsfirst|headfirst|nocheck|nogen]
tailsfirst: tails published before the head; headfirst: the head freed before the tails; nocheck: the row is not looked at again after its word was taken;
nogen: generations do not count"""
import sys
N,P,OPS,KILLS=map(int,sys.argv[1:5]);MUT=sys.argv[5] if len(sys.argv)>5 else ''
G=(lambda g:g) if MUT=='nogen' else (lambda g:g+1)
def rep(t,i,v): return t[:i]+(v,)+t[i+1:]
INIT=((('F',0),)*N,(None,)*N,(('L',),)*P,(OPS,)*P,(1<<P)-1)
def steps(s):
    rows,words,procs,ops,alive=s
    dead=lambda o: not alive>>o&1
    for p in range(P):
        if dead(p): continue
        q=procs[p];pc=q[0]
        def to(q,rows=rows,words=words,ops=ops): return (rows,words,rep(procs,p,q),ops,alive)
        def cas(i,old,new): return rep(rows,i,new) if rows[i]==old else rows
        if pc=='L':
            if ops[p]:
                for n in range(1,N+1):
                    for a in range(N-n+1):
                        if all(rows[a+i][0]=='F' for i in range(n)): yield to(('A',a,n,()),ops=rep(ops,p,ops[p]-1))
            for i in range(N):
                r=rows[i]
                if r[0]=='C' and dead(r[1]): yield to(('SC',i,r))
                if r[0]=='H': yield to(('SH',i,r))
        elif pc=='SC': yield to(('L',),rows=cas(q[1],q[2],('F',q[2][2])))
        elif pc=='SH':                       # the word of a head, seen a while after the head
            i,r=q[1:];w=words[i]
            if w and dead(w[1]) and w[2]==r[2]: yield to(('SW',i,r,w))
            else: yield to(('L',))
        elif pc=='SW':
            i,r,w=q[1:]
            if words[i]==w: yield to(('F1',i,r),words=rep(words,i,('f',p,r[2])))
            else: yield to(('L',))
        elif pc=='A':
            a,n,g=q[1:];i=a+len(g);r=rows[i]
            if r[0]!='F': yield to(('B',a,g) if g else ('L',))
            else:
                g+=(G(r[1]),);yield to(('A',a,n,g) if len(g)<n else ('W',a,n,g),rows=rep(rows,i,('C',p,g[-1])))
        elif pc=='B':
            a,g=q[1:];i=a+len(g)-1
            yield to(('B',a,g[:-1]) if len(g)>1 else ('L',),rows=cas(i,('C',p,g[-1]),('F',g[-1])))
        elif pc=='W':
            a,n,g=q[1:];yield to(('H',a,n,g) if MUT!='tailsfirst' else ('T',a,n,g,1),words=rep(words,a,('o',p,g[0])))
        elif pc=='H':
            a,n,g=q[1:];assert rows[a]==('C',p,g[0])
            yield to(('T',a,n,g,1) if MUT!='tailsfirst' else ('O',a,n,g),rows=rep(rows,a,('H',n,g[0])))
        elif pc=='T':
            a,n,g,i=q[1:]
            if i==n: yield to(('O',a,n,g) if MUT!='tailsfirst' else ('H',a,n,g))
            else:
                assert rows[a+i]==('C',p,g[i])
                yield to(('T',a,n,g,i+1),rows=rep(rows,a+i,('T',i,g[i])))
        elif pc=='O':
            a,n,g=q[1:];assert words[a]==('o',p,g[0]),('my run was taken',s)
            yield to(('F1',a,('H',n,g[0])),words=rep(words,a,('f',p,g[0])))
        elif pc=='F1':
            i,r=q[1:]
            if rows[i]!=r and MUT!='nocheck': yield to(('L',))
            elif MUT=='headfirst': yield to(('F2',i,r,1),rows=cas(i,r,('F',r[2])))
            else: yield to(('F2',i,r,1))
        elif pc=='F2':
            i,r,d=q[1:]
            if d==r[1]: yield to(('F4',i,r))
            elif rows[i+d][:2]==('T',d): yield to(('F3',i,r,d,rows[i+d]))
            else: yield to(('F2',i,r,d+1))
        elif pc=='F3':
            i,r,d,t=q[1:];yield to(('F2',i,r,d+1),rows=cas(i+d,t,('F',t[2])))
        elif pc=='F4':
            i,r=q[1:];yield to(('L',),rows=cas(i,r,('F',r[2])))
def check(s):
    rows,words,procs,ops,alive=s
    for p in range(P):
        if not alive>>p&1: continue
        q=procs[p]
        if q[0]=='O':
            a,n,g=q[1:]
            assert words[a]==('o',p,g[0]) and rows[a]==('H',n,g[0]) and all(rows[a+i]==('T',i,g[i]) for i in range(1,n)),('a living owner lost its run',s)
        if q[0]=='W':
            a,n,g=q[1:];assert all(rows[a+i]==('C',p,g[i]) for i in range(n)),('a living maker lost a chunk',s)
seen={INIT};todo=[INIT];nxt={}
while todo:
    s=todo.pop();check(s);o=list(steps(s));nxt[s]=o;k=[]
    if P-bin(s[4]).count('1')<KILLS: k=[s[:4]+(s[4]&~(1<<p),) for p in range(P) if s[4]>>p&1]
    for x in o+k:
        if x not in seen: seen.add(x);todo.append(x)
good=lambda s: not s[4] or all(r[0]=='F' for r in s[0])
back={}
for s,o in nxt.items():
    for x in o: back.setdefault(x,[]).append(s)
ok={s for s in nxt if good(s)};st=list(ok)
while st:
    for r in back.get(st.pop(),()):
        if r not in ok: ok.add(r);st.append(r)
stuck=[s for s in nxt if s not in ok]
print(sys.argv[1:],'states',len(nxt),'leaked for good',len(stuck))
if stuck: print('  ',stuck[0])
